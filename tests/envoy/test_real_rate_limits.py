"""LocalRateLimits at a running gateway: what is counted, how many pass, and what the others are told (X1).

Each test has rules of its own, which count only requests with its number in the header ``x-case``.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from e2e.harness.ports import free_ports
from tests.envoy.test_real_dynamic_dns import World, running
from tests.mesh import fleet
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

HOUR = {"per": "1h"}
Gateway = tuple[World, int]
MATCHES: list[tuple[dict[str, Any], list[tuple[str, ...]], list[tuple[str, ...]]]] = [
    ({"paths": ["/a"]}, [("GET /a",), ("GET /a?x=/b",)], [("GET /a/b",), ("GET /ab",), ("GET /x?/a",)]),
    ({"paths": ["/a/*"]}, [("GET /a/",), ("GET /a/b/c?d",)], [("GET /a",), ("GET /b?/a/",)]),
    ({"paths": ["*.html"]}, [("GET /a.html",), ("GET /b/c.html?d=e",)], [("GET /a.htm",), ("GET /a?b.html",)]),
    ({"paths": ["/a.b"]}, [("GET /a.b",)], [("GET /aXb",)]),
    ({"methods": ["PUT", "PA*"]}, [("PUT /",), ("PATCH /",)], [("GET /",)]),
    ({"hosts": ["a.example"]}, [("GET /", "Host: a.example"), ("GET /", "Host: A.example:80")], [("GET /",)]),
    ({"hosts": ["*.example"]}, [("GET /", "Host: b.example")], [("GET /", "Host: example")]),
    (
        {"headers": [{"name": "x-a", "values": ["b", "c*"]}]},
        [("GET /", "x-a: b"), ("GET /", "X-A: cd")],
        [("GET /",), ("GET /", "x-a: d")],
    ),
    ({"headers": [{"name": "x-a", "values": ["*"]}]}, [("GET /", "x-a: b")], [("GET /",)]),
    ({"headers": [{"name": "x-a", "notValues": ["b"]}]}, [("GET /",), ("GET /", "x-a: c")], [("GET /", "x-a: b")]),
    ({"methods": ["GET"], "paths": ["/a"]}, [("GET /a",)], [("PUT /a",), ("GET /b",)]),
]


def of_case(case: str, **match: Any) -> dict[str, Any]:
    return {**match, "headers": [*match.get("headers", ()), {"name": "x-case", "values": [case]}]}


def limit(name: str, *rules: dict[str, Any]) -> str:
    spec = {"selector": {"matchLabels": {"app": "client"}}, "rules": list(rules)}
    return fleet.dump("extensions.istiod.dev/v1alpha1", "LocalRateLimit", name, spec=spec)


RULES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"match": of_case("plain"), "limit": {"requests": 5, **HOUR}}],
    "burst": [{"match": of_case("burst"), "limit": {"requests": 1, "per": "500ms", "burst": 4}}],
    "told": [
        {
            "match": of_case("told"),
            "limit": {"requests": 1, **HOUR},
            "status": 503,
            "responseHeaders": {"retry-after": "7", "x-why": "too many"},
        }
    ],
    "each": [
        {"match": of_case("each", methods=["GET"]), "limit": {"requests": 3, **HOUR}, "status": 503},
        {"match": of_case("each", paths=["/a"]), "limit": {"requests": 1, **HOUR}},
    ],
    "other": [{"match": of_case("each", paths=["/b"]), "limit": {"requests": 1, **HOUR}, "status": 502}],
    "own": [{"match": of_case("own"), "limit": {"requests": 2, **HOUR}, "perConnection": True}],
    "matches": [
        {"match": of_case(f"m{index}", **match), "limit": {"requests": len(counted), **HOUR}}
        for index, (match, counted, _) in enumerate(MATCHES)
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    (port,) = free_ports(1)
    server = {"port": {"number": port, "name": "in", "protocol": "HTTP"}, "hosts": ["*"]}
    rule = {"hosts": ["*"], "gateways": ["own"], "http": [{"directResponse": {"status": 200}}]}
    async with running(tmp_path_factory.mktemp("limits"), "router") as world:
        await world.settle(
            fleet.istio("Gateway", "own", {"selector": {"app": "client"}, "servers": [server]}),
            fleet.istio("VirtualService", "own", rule),
            *(limit(name, *rules) for name, rules in RULES.items()),
        )
        await until(lambda: answers(port), "an answer")
        yield world, port


async def answers(port: int) -> bool:
    try:
        return (await asked(port, "none", "GET /"))[0] == 200
    except OSError:
        return False


async def asked(port: int, case: str, line: str = "GET /", *headers: str) -> tuple[int, str]:
    """Status and all of the answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{line} HTTP/1.1", "connection: close", f"x-case: {case}", *headers]
    lines += [] if any(one.lower().startswith("host:") for one in headers) else ["host: web"]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1")
    writer.close()  # the end of the connection would come a second later
    return int(answer.split(" ", 2)[1]), answer.lower()


async def test_so_many_pass_and_the_rest_is_told_429(gateway: Gateway) -> None:
    counts = Counter([(await asked(gateway[1], "plain"))[0] for _ in range(20)])
    assert counts == {200: 5, 429: 15}
    assert (await asked(gateway[1], "none"))[0] == 200


async def test_a_burst_is_what_may_come_at_once_and_tokens_come_again(gateway: Gateway) -> None:
    began = asyncio.get_running_loop().time()
    passed = [(await asked(gateway[1], "burst"))[0] for _ in range(12)].count(200)
    took = asyncio.get_running_loop().time() - began
    assert 4 <= passed <= 5 + took / 0.5

    async def again() -> bool:
        return (await asked(gateway[1], "burst"))[0] == 200

    await until(again, "another token")


async def test_status_and_headers_are_the_rules(gateway: Gateway) -> None:
    first, text = await asked(gateway[1], "told")
    assert (first, "retry-after" in text) == (200, False)
    status, text = await asked(gateway[1], "told")
    assert status == 503
    assert re.search(r"(?m)^retry-after: 7\r?$", text)
    assert re.search(r"(?m)^x-why: too many\r?$", text)


@pytest.mark.parametrize("index", range(len(MATCHES)))
async def test_what_matches_is_counted_and_nothing_else(index: int, gateway: Gateway) -> None:
    _, counted, others = MATCHES[index]
    for one in others * 3:
        assert (one, (await asked(gateway[1], f"m{index}", *one))[0]) == (one, 200)
    for status in (200, 429):
        for one in counted:
            assert (one, (await asked(gateway[1], f"m{index}", *one))[0]) == (one, status)


async def test_rules_and_objects_count_each_for_itself(gateway: Gateway) -> None:
    """A request has to find a token in each that counts it."""
    lines = ("GET /a", "GET /a", "PUT /b", "PUT /b", "GET /c", "GET /c")
    assert [(await asked(gateway[1], "each", line))[0] for line in lines] == [200, 429, 200, 502, 200, 503]


async def test_each_connection_may_have_a_bucket_of_its_own(gateway: Gateway) -> None:
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway[1])
        found = []
        for _ in range(4):
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nx-case: own\r\n\r\n")
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0))
            found.append(int(head.split(" ", 2)[1]))
        writer.close()
        assert found == [200, 200, 429, 429]


async def test_a_rule_without_match_counts_all(gateway: Gateway) -> None:
    """The last of this file: it holds for every request."""
    world, port = gateway
    await world.settle(limit("plain", {"limit": {"requests": 2, **HOUR}}))

    async def refused() -> bool:
        return (await asked(port, "none"))[0] == 429

    await until(refused, "a refusal")
    assert (await asked(port, "other", "PUT /x"))[0] == 429

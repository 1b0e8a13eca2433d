"""VirtualService: what becomes of an HTTP request: weights, redirects, answers, rewrites, headers, delegates."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.behaviour import world
from tests.behaviour.case import Cases
from tests.behaviour.client import Ask, Reply, connected
from tests.behaviour.rig import Rig
from tests.behaviour.servers import saying

CASES = Cases()
V1 = """
---
kind: DestinationRule
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""


def routed(what: str, more: str = "") -> str:
    """A rule for web with this in its only route."""
    return f"kind: VirtualService\nspec:\n  hosts: [web]\n  http:\n  - {what}\n{more}"


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  http:
  - route:
    - {destination: {host: web, subset: v1}, weight: 20}
    - {destination: {host: web, subset: v2}, weight: 30}
    - {destination: {host: shop, port: {number: $http}}, weight: 50}
"""
    + V1,
    r"DestinationRule spec\.(host|subsets\[\]\.name)",
    r"VirtualService spec\.http\[\]\.route\[\]\.destination\.port.*",
)
async def weights_by_counting(rig: Rig) -> None:
    found = Counter(await rig.names(300))
    v2 = found["web-2"] + found["web-3"]
    assert abs(found["web-1"] - 60) < 30, found
    assert abs(v2 - 90) < 35, found
    assert abs(found["shop-1"] - 150) < 40, found


@CASES(routed("{route: [{destination: {host: web, port: {number: $http3}}}]}"))
async def another_port_of_the_host(rig: Rig) -> None:
    assert (await rig.ask()).status == 200
    assert rig.servers.seen[-1].port == world.SECOND_APP


async def _headers(rig: Rig) -> None:
    rig.servers.answer = saying(headers={"x-rgone": "1", "x-rset": "old", "x-radded": "old"})
    back = (await rig.ask(headers={"x-set": "old", "x-there": "old", "x-added": "old", "x-gone": "1"})).headers
    seen = rig.servers.seen[-1].headers
    assert (seen["x-set"], seen["x-there"], seen["x-added"]) == ("s", "new", "old,a")
    assert "x-gone" not in seen
    assert (back["x-rset"], back["x-radded"]) == ("s", "old,a")
    assert "x-rgone" not in back


OPERATIONS = (
    "headers: {request: {set: {x-set: s, x-there: new}, add: {x-added: a}, remove: [x-gone]},"
    " response: {set: {x-rset: s}, add: {x-radded: a}, remove: [x-rgone]}}"
)


@CASES(routed(f"{{route: [{{destination: {{host: shop}}}}], {OPERATIONS}}}"), r".*destination\.host")
async def headers_of_a_rule(rig: Rig) -> None:
    await _headers(rig)


@CASES(routed(f"{{route: [{{destination: {{host: shop}}, {OPERATIONS}}}]}}"), r".*destination\.host")
async def headers_of_a_destination(rig: Rig) -> None:
    await _headers(rig)


@CASES(
    routed("""{route: [{destination: {host: shop}, weight: 1, headers: {request: {set: {x-who: one}}}},
     {destination: {host: web}, weight: 1, headers: {request: {set: {x-who: two}}}}]}"""),
)
async def headers_of_the_destination_that_was_chosen(rig: Rig) -> None:
    await rig.names(24)
    found = {(one.name[:3], one.headers.get("x-who")) for one in rig.servers.seen}
    assert found == {("sho", "one"), ("web", "two")}


def _place(back: Reply) -> tuple[int, str]:
    return back.status, back.headers.get("location", "")


@CASES(routed("{redirect: {uri: /new, authority: other.example, scheme: https, port: 8443, redirectCode: 308}}"))
async def redirect_elsewhere(rig: Rig) -> None:
    assert _place(await rig.ask("/old")) == (308, "https://other.example:8443/new")


@CASES(routed("{match: [{uri: {prefix: /old}}], redirect: {prefixRewrite: /new}}"), r".*match.*")
async def redirect_with_another_prefix(rig: Rig) -> None:
    back = await rig.ask("/old/x")
    assert (back.status, back.headers["location"].endswith("/new/x")) == (301, True)


@CASES(routed("{redirect: {uri: /x, derivePort: FROM_REQUEST_PORT}}"))
async def redirect_to_the_requests_port(rig: Rig) -> None:
    assert _place(await rig.ask("/")) == (301, f"http://web:{rig.ports['http']}/x")


@CASES(routed("{directResponse: {status: 418, body: {string: short and stout}}}"))
async def direct_response(rig: Rig) -> None:
    back = await rig.ask()
    assert (back.status, back.body, rig.servers.seen) == (418, "short and stout", [])


@CASES(routed("{directResponse: {status: 203, body: {bytes: aGVsbG8=}}}"))
async def direct_response_of_bytes(rig: Rig) -> None:
    back = await rig.ask()
    assert (back.status, back.body) == (203, "hello")


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  http:
  - {match: [{uri: {prefix: /d}}], delegate: {name: part, namespace: other}}
  - {route: [{destination: {host: web}}]}
---
kind: VirtualService
metadata: {name: part, namespace: other}
spec: {http: [{route: [{destination: {host: far}}]}]}
""",
    r"VirtualService spec\.http\[\]\.match.*",
)
async def a_delegate_says_the_rest(rig: Rig) -> None:
    assert (await rig.ask("/d/x")).body == "far-1"
    assert (await rig.ask("/x")).body.startswith("web")


@CASES(
    routed(
        "{match: [{uri: {prefix: /old}}], rewrite: {uri: /new, authority: other.example},"
        " route: [{destination: {host: shop}}]}"
    ),
    r".*destination\.host",
    r".*match.*",
)
async def rewrite_prefix_and_authority(rig: Rig) -> None:
    await rig.ask("/old/x")
    seen = rig.servers.seen[-1]
    assert (seen.path, seen.headers["host"]) == ("/new/x", "other.example")


@CASES(
    routed(
        r"{rewrite: {uriRegexRewrite: {match: '/id/([0-9]+)', rewrite: '/\1/id'}},"
        " route: [{destination: {host: shop}}]}"
    ),
    r".*destination\.host",
)
async def rewrite_by_regex(rig: Rig) -> None:
    await rig.ask("/id/42/x")
    assert rig.servers.seen[-1].path == "/42/id/x"


@CASES(routed("{match: [{uri: {prefix: /chat}}], route: [{destination: {host: shop}}]}"), r".*")
async def websockets_go_on_as_bytes(rig: Rig) -> None:
    reader, writer = await connected(Ask(port=rig.ports["http"]))
    writer.write(b"GET /chat HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    writer.close()
    assert rig.servers.seen[-1].name == "shop-1"


CORS = """{corsPolicy: {%s, allowMethods: [GET, PUT], allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: 90s,
  allowCredentials: true}, route: [{destination: {host: shop}}]}"""


async def _cors(rig: Rig, origin: str, other: str) -> None:
    asked = {"origin": origin, "access-control-request-method": "PUT"}
    back = (await rig.ask(method="OPTIONS", headers=asked)).headers
    assert rig.servers.seen == []
    assert back["access-control-allow-origin"] == origin
    assert back["access-control-allow-methods"] == "GET,PUT"
    assert back["access-control-allow-headers"] == "x-a"
    assert back["access-control-max-age"] == "90"
    assert back["access-control-allow-credentials"] == "true"
    plain = (await rig.ask(headers={"origin": origin})).headers
    assert plain["access-control-expose-headers"] == "x-b"
    assert "access-control-allow-origin" not in (await rig.ask(headers={"origin": other})).headers


@CASES(routed(CORS % "allowOrigins: [{exact: 'http://a.example'}]"), r".*destination\.host")
async def cors_exact(rig: Rig) -> None:
    await _cors(rig, "http://a.example", "http://a.example.b")


@CASES(routed(CORS % "allowOrigins: [{prefix: 'http://a.'}]"), r".*destination\.host")
async def cors_prefix(rig: Rig) -> None:
    await _cors(rig, "http://a.b", "http://b.a.")


@CASES(routed(CORS % "allowOrigins: [{regex: 'http://[ab].example'}]"), r".*destination\.host")
async def cors_regex(rig: Rig) -> None:
    await _cors(rig, "http://b.example", "http://ab.example")


@CASES(routed(CORS % "allowOrigin: ['http://a.example']"), r".*destination\.host")
async def cors_by_its_old_name(rig: Rig) -> None:
    await _cors(rig, "http://a.example", "http://a.example.b")


@CASES(
    routed(
        "{corsPolicy: {allowOrigins: [{exact: 'http://a'}], unmatchedPreflights: IGNORE},"
        " route: [{destination: {host: shop}}]}"
    ),
    r".*destination\.host",
    r".*allowOrigins.*",
)
async def preflights_of_others_end_at_the_proxy(rig: Rig) -> None:
    asked = {"origin": "http://b", "access-control-request-method": "PUT"}
    back = await rig.ask(method="OPTIONS", headers=asked)
    assert (back.status, rig.servers.seen) == (200, [])


@CASES(
    routed(
        "{corsPolicy: {allowOrigins: [{exact: 'http://a'}], unmatchedPreflights: FORWARD},"
        " route: [{destination: {host: shop}}]}"
    ),
    r".*",
)
async def preflights_of_others_are_the_apps(rig: Rig) -> None:
    asked = {"origin": "http://b", "access-control-request-method": "PUT"}
    assert (await rig.ask(method="OPTIONS", headers=asked)).body == "shop-1"

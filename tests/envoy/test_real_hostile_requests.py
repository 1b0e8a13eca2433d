"""Requests made to be read in two ways, through a real Envoy: headers of policies (SEC47), smuggling (SEC61)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded, StreamReset

from e2e.harness.ports import free_ports
from tests.envoy import guarded, made
from tests.envoy.guarded import Certificates, Guard
from tests.envoy.test_real_authorization import policy, said
from tests.envoy.test_real_dynamic_dns import running
from tests.envoy.test_real_proxy_headers import objects
from tests.mesh import fleet
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]


async def spoken(address: str, port: int, sent: bytes) -> bytes:
    """All that comes back for these bytes, until the connection is closed or silent."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(sent)
    got = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while more := await asyncio.wait_for(reader.read(65536), 1):
            got += more
    writer.close()
    return got


def statuses(got: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", got)]


# SEC47: a policy that looks at a header, and what clients may make of that header

HEADER = "request.headers[x-role]"
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "allow-not": ("ALLOW", {"key": HEADER, "notValues": ["evil"]}),
    "allow-not-prefix": ("ALLOW", {"key": HEADER, "notValues": ["ev*"]}),
    "allow": ("ALLOW", {"key": HEADER, "values": ["good"]}),
    "deny": ("DENY", {"key": HEADER, "values": ["evil"]}),
    "deny-prefix": ("DENY", {"key": HEADER, "values": ["ev*"]}),
    "deny-not": ("DENY", {"key": HEADER, "notValues": ["good"]}),
}
MANY = tuple(b"x-role: v%d" % i for i in range(90))
ALL, NONE = dict.fromkeys(POLICIES, 200), dict.fromkeys(POLICIES, 403)
EVIL = NONE
"""The value that is not wanted, in whatever dress."""
BOTH = {**NONE, "allow": 200, "deny-not": 200}
"""Lines of both kinds: Envoy compares each by itself. A rule that lets in by a value takes the good line; nothing that
must not be evil is let in."""
OTHER = {**ALL, "allow": 403, "deny-not": 403}
"""Neither the one nor the other: what must not be evil passes, what must be good does not."""
SPELLINGS: dict[str, tuple[tuple[bytes, ...], dict[str, int]]] = {
    "good": ((b"x-role: good",), ALL),
    "evil": ((b"x-role: evil",), EVIL),
    "upper-case name": ((b"X-ROLE: evil",), EVIL),
    "spaces around": ((b"x-role: \t evil \t",), EVIL),
    "evil after good": ((b"x-role: good", b"x-role: evil"), BOTH),
    "evil before good": ((b"x-role: evil", b"x-role: good"), BOTH),
    "evil among many": ((*MANY, b"x-role: evil"), EVIL),
    "more than a hundred headers": ((*MANY, *MANY, b"x-role: good"), dict.fromkeys(POLICIES, 431)),
    "another value": ((b"x-role: eve-non",), {**OTHER, "allow-not-prefix": 403, "deny-prefix": 403}),
    "no header": ((), OTHER),
    "empty": ((b"x-role:",), OTHER),
    "underscore": ((b"x_role: good",), OTHER),
    "no UTF-8": ((b"x-role: \xff\xfe",), OTHER),
    "no UTF-8 after evil": ((b"x-role: \xff", b"x-role: evil"), EVIL),
    "other case of the value": ((b"x-role: EVIL",), OTHER),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guards(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, int]]:
    ports = dict(zip(POLICIES, guarded.ports(len(POLICIES)), strict=True))
    made_of = {
        name: said(policy(name, action=action, rules=[{"when": [condition]}]))
        for name, (action, condition) in POLICIES.items()
    }
    certificates = Certificates(tmp_path_factory.mktemp("headers"))
    async with guarded.running(
        [Guard(port=port, said=made_of[name]) for name, port in ports.items()], certificates, made.QUIET
    ):
        yield ports


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_a_header_gets_past_a_policy(spelling: str, guards: dict[str, int]) -> None:
    lines, wanted = SPELLINGS[spelling]
    sent = b"\r\n".join((b"GET / HTTP/1.1", b"host: a", b"connection: close", *lines, b"", b""))
    answers = await asyncio.gather(*(spoken(guarded.ADDRESS, port, sent) for port in guards.values()))
    found = {name: statuses(answer) for name, answer in zip(guards, answers, strict=True)}
    assert found == {name: [status] for name, status in wanted.items()}


# SEC61: what a gateway makes of requests that two servers may read in two ways


class Upstream:
    """A server that answers nothing but 200, and keeps each byte that it was sent."""

    def __init__(self) -> None:
        self.got = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65536):
                self.got += more
                if self.got.endswith(b"\r\n\r\n") or b"\r\n\r\n" in more:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[int, Upstream]]:
    """The port of a gateway, and what stands behind it."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    (port,) = free_ports(1)
    async with running(tmp_path_factory.mktemp("smuggling"), "router") as world:
        await world.settle(fleet.mesh_config("{}"), *objects(port, server.sockets[0].getsockname()[1]))

        async def answers() -> bool:
            try:
                return statuses(await spoken("127.0.0.1", port, request())) == [200]
            except OSError:
                return False

        await until(answers, "an answer")
        yield port, upstream
    server.close()


def request(*lines: bytes, body: bytes = b"", line: bytes = b"GET / HTTP/1.1", last: bool = True) -> bytes:
    close = (b"connection: close",) if last else ()
    return b"\r\n".join((line, b"host: web.example", *lines, *close, b"", body))


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: web.example\r\n\r\n"
POST = b"POST / HTTP/1.1"
TRICKS: dict[str, bytes] = {
    "length and chunks": request(
        b"content-length: 5", b"transfer-encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED, line=POST, last=False
    ),
    "two lengths": request(b"content-length: 0", b"content-length: 48", body=SMUGGLED, line=POST, last=False),
    "a list of lengths": request(b"content-length: 0, 48", body=SMUGGLED, line=POST, last=False),
    "a length with a sign": request(b"content-length: +0", body=SMUGGLED, line=POST, last=False),
    "unknown coding": request(b"transfer-encoding: xchunked", body=SMUGGLED, line=POST, last=False),
    "chunked twice": request(b"transfer-encoding: chunked, chunked", body=SMUGGLED, line=POST, last=False),
    "space before the colon": request(b"content-length : 0", body=SMUGGLED, line=POST, last=False),
    "null in a value": request(b"x-a: b\x00c", last=False) + SMUGGLED,
    "no number": request(b"transfer-encoding: chunked", body=b"zz\r\n" + SMUGGLED, line=POST, last=False),
}


NOT_IMPLEMENTED = ("unknown coding", "chunked twice")
"""What is no length that Envoy knows."""


@pytest.mark.parametrize("trick", TRICKS)
async def test_a_request_that_may_be_read_in_two_ways_is_refused_with_its_connection(
    trick: str, gateway: tuple[int, Upstream]
) -> None:
    """Nothing that comes after it on the connection is a request of anybody's."""
    port, upstream = gateway
    upstream.got = b""
    found = statuses(await spoken("127.0.0.1", port, TRICKS[trick]))
    wanted = 501 if trick in NOT_IMPLEMENTED else 400
    assert (found, b"smuggled" in upstream.got) == ([wanted], False), upstream.got


@pytest.mark.parametrize("value", [b"b\r\n c", b"b\nx-b: c", b"b\rx-b: c"], ids=["folded", "bare LF", "bare CR"])
async def test_line_ends_that_envoy_takes_are_read_one_way_by_all_behind_it(
    value: bytes, gateway: tuple[int, Upstream]
) -> None:
    """Stock Envoy has no option to refuse them: what it sends on has ends of lines of one kind only."""
    port, upstream = gateway
    upstream.got = b""
    found = statuses(await spoken("127.0.0.1", port, request(b"x-a: " + value)))
    assert (found, upstream.got.count(b"HTTP/1.1\r\n")) == ([200], 1)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\n[ \t]", upstream.got)


@pytest.mark.parametrize(
    "field",
    [
        ("x-a", "b\r\nx-evil: 1"),
        ("x-a", "b\nx-evil: 1"),
        ("x-a", "b\0c"),
        ("x-a\r\nx-evil", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "0\r\nx-evil: 1"),
        (":path", "/ HTTP/1.1\r\nx-evil: 1"),
        (":path", "/a b"),
        (":authority", "web.example\r\nx-evil: 1"),
        (":method", "GET / HTTP/1.1\r\nx-evil: 1\r\n"),
    ],
    ids=repr,
)
async def test_no_field_of_http_2_becomes_two_lines_of_http_1(
    field: tuple[str, str], gateway: tuple[int, Upstream]
) -> None:
    port, upstream = gateway
    upstream.got = b""
    fields = {":method": "GET", ":scheme": "http", ":authority": "web.example", ":path": "/"}
    named = [*{**fields, **({field[0]: field[1]} if field[0] in fields else {})}.items()]
    status = await asked_2(port, [*named, *([] if field[0] in fields else [field])])
    assert (status, b"evil" in upstream.got) == (400, False), upstream.got


async def asked_2(port: int, fields: list[tuple[str, str]]) -> int:
    """Status of a request of HTTP/2; 400 where the stream or the connection was ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
    connection.initiate_connection()
    connection.send_headers(1, fields, end_stream=True)
    writer.write(connection.data_to_send())
    status = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while received := await asyncio.wait_for(reader.read(65536), 5):
            for event in connection.receive_data(received):
                if isinstance(event, ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                if isinstance(event, StreamEnded | StreamReset):
                    writer.close()
                    return status or 400
    writer.close()
    return status or 400

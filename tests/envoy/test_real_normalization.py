"""Spellings of paths, hosts and methods through a real Envoy: one decision per route (SEC44-SEC46).

The expected decisions for paths are the table of docs/decisions/0017-path-normalization.md, so that what users read is
what is tested.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded, StreamReset

from e2e.harness.ports import free_ports
from istiod.config.resource import ResourceSet
from istiod.envoy.compiler import Compiler
from istiod.mesh import context
from tests import envoys
from tests.envoy import made
from tests.mesh import fleet
from tests.waiting import until
from wire import names

pytestmark = pytest.mark.envoy

MODES = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
DENIED, OPEN = 403, 200
SEEN = "x-path"
TELLS = {"response": {"set": {SEEN: "%REQ(:path)%"}}}


def resources(mode: str) -> ResourceSet:
    """What a gateway gets where /admin and the method DELETE are denied, and everything else of x.example is open."""
    denied = [{"uri": {"exact": "/admin"}}, {"uri": {"prefix": "/admin/"}}, {"method": {"exact": "DELETE"}}]
    rules = {
        "hosts": ["x.example", "xn--bcher-kva.example"],
        "gateways": ["gw"],
        "http": [
            {"match": denied, "directResponse": {"status": DENIED}, "headers": TELLS},
            {"directResponse": {"status": OPEN}, "headers": TELLS},
        ],
    }
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    mesh = fleet.Mesh(
        fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [server]}),
        fleet.istio("VirtualService", "rules", rules),
        fleet.pod("gw-1", "10.1.0.3"),
        fleet.mesh_config(f"pathNormalization: {{normalization: {mode}}}" if mode else "{}"),
    )
    proxy = fleet.proxy("gw-1", kind="router", ip="10.1.0.3", LABELS={"app": "gw"})
    found = mesh.context
    return Compiler().compile(context.scope(found, proxy), found.endpoints, context.view(found, proxy))


def bootstrap(ports: dict[str, int]) -> bootstrap_pb2.Bootstrap:
    """One listener per mode, as istiod makes it but for its address and for routes that stand inside."""
    config = bootstrap_pb2.Bootstrap()
    config.node.id, config.node.cluster = "router~127.0.0.1~a.default~default.svc.cluster.local", "a"
    for mode, port in ports.items():
        given = resources(mode)
        (own,) = given.of(names.LISTENER)
        (table,) = given.of(names.ROUTE)
        listener = made.parsed(own, listener_pb2.Listener)
        manager = made.manager(listener.filter_chains[0])
        manager.route_config.CopyFrom(made.parsed(table, route_pb2.RouteConfiguration))
        listener.filter_chains[0].filters[0].typed_config.Pack(manager)
        listener.name = mode or "default"
        listener.address.socket_address.address, listener.address.socket_address.port_value = "127.0.0.1", port
        config.static_resources.listeners.append(listener)
    return config


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ports(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, int]]:
    """Port by mode of a running Envoy; "" is a mesh that says nothing about paths."""
    modes = ("", *MODES)
    found = dict(zip(modes, free_ports(len(modes)), strict=True))
    path = tmp_path_factory.mktemp("normalization") / "bootstrap.pb"
    path.write_bytes(bootstrap(found).SerializeToString())
    process = await asyncio.create_subprocess_exec(
        envoys.binary(), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"
    )

    async def ready() -> bool:
        return await asked(found[MODES[-1]], b"/") == (OPEN, "/")

    try:
        await until(ready, "a running Envoy")
        yield found
    finally:
        process.terminate()
        await process.wait()


async def asked(
    port: int, target: bytes, *hosts: bytes, method: bytes = b"GET", last: tuple[bytes, ...] = (b"connection: close",)
) -> tuple[int, str]:
    """Status and path as routed of a request of HTTP/1.1, 0 while nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0, ""
    lines = [method + b" " + target + b" HTTP/1.1", *(b"host: " + host for host in hosts or (b"x.example",))]
    writer.write(b"\r\n".join([*lines, *last, b"", b""]))
    try:
        answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
    except asyncio.IncompleteReadError as ended:
        answer = ended.partial.decode("latin-1")
    finally:
        writer.close()
    seen = re.search(rf"(?mi)^{SEEN}: (.*?)\r?$", answer)
    return int(answer.split(" ", 2)[1]) if answer else 400, seen[1] if seen else ""


async def asked_2(port: int, method: str) -> int:
    """Status of a request of HTTP/2, 400 where the stream was reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
    connection.initiate_connection()
    fields = [(":method", method), (":path", "/"), (":scheme", "http"), (":authority", "x.example")]
    connection.send_headers(1, fields, end_stream=True)
    writer.write(connection.data_to_send())
    status = 0
    while True:
        received = await asyncio.wait_for(reader.read(65536), 10)
        for event in connection.receive_data(received) if received else ():
            if isinstance(event, ResponseReceived):
                status = int(dict(event.headers)[b":status"])
            if isinstance(event, StreamEnded | StreamReset):
                received = b""
        if not received:
            writer.close()
            return status or 400


PAGE = Path(__file__).parents[2] / "docs/decisions/0017-path-normalization.md"
WORDS = {"denied": DENIED, "open": OPEN, "refused": 400}


def table() -> list[tuple[bytes, dict[str, int]]]:
    """The decisions of the page: spelling, and status by mode."""
    rows = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [
        (
            row[0].strip(" `").encode().decode("unicode_escape").encode("latin-1"),
            {mode: WORDS[word.strip()] for mode, word in zip(MODES, row[1:], strict=True)},
        )
        for row in rows
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_each_spelling_of_a_path_is_decided_as_the_page_says(ports: dict[str, int]) -> None:
    expected = table()
    assert len(expected) > 30
    for spelling, by_mode in expected:
        found = {mode: (await asked(ports[mode], spelling))[0] for mode in MODES}
        assert (spelling, found) == (spelling, by_mode)


SEGMENTS = (b"admin", b"%61dmin", b"x", b".", b"..", b"%2e%2e", b"", b"x;a", b"..;", b"%2f")
HALF_READ = re.compile(rb"(?i)(\\|%5c|%2f)\.\.;")
"""What Envoy reads in two steps: see the test of it."""
SEPARATORS = (b"/", b"\\", b"%2f", b"%5C")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", MODES)
async def test_what_a_rule_sees_is_what_the_app_gets_and_never_changes_again(mode: str, ports: dict[str, int]) -> None:
    """A next proxy that reads the path anew decides alike: no spelling reaches a path that rules deny."""
    spellings = [b"/" + one + between + two for one, between, two in itertools.product(SEGMENTS, SEPARATORS, SEGMENTS)]
    for spelling in spellings:
        status, seen = await asked(ports[mode], spelling)
        if status == 400 or HALF_READ.search(spelling):
            continue
        denied = seen == "/admin" or seen.startswith("/admin/")
        assert (spelling, status) == (spelling, DENIED if denied else OPEN)
        assert await asked(ports[mode], seen.encode("latin-1")) == (status, seen)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_backslash_before_two_dots_and_a_parameter_is_read_in_two_steps(ports: dict[str, int]) -> None:
    """The one known spelling whose path a second proxy reads otherwise (docs/limits.md); Envoy may mend it one day."""
    assert await asked(ports["BASE"], b"/x\\..;/admin") == (OPEN, "/x/..;/admin")
    assert await asked(ports["BASE"], b"/x/..;/admin") == (DENIED, "/admin")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_mesh_that_says_nothing_is_decided_as_with_base(ports: dict[str, int]) -> None:
    for spelling, _ in table():
        assert await asked(ports[""], spelling) == await asked(ports["BASE"], spelling)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("hosts", "routed"),
    [
        ((b"x.example",), True),
        ((b"X.Example",), True),
        ((b"x.example:80",), True),
        ((b"X.EXAMPLE:8080",), True),
        ((b"xn--bcher-kva.example",), True),
        ((b"x.example.",), False),
        ((b"x.example", b"x.example"), False),
        ((b"x.example", b"y.example"), False),
        ((b"x.example,y.example",), False),
        ((b"x.example@y",), False),
        ((b"x.example/admin",), False),
        (("b\u00fccher.example".encode(),), False),
        ((b"",), False),
        ((b"y.example",), False),
    ],
)
async def test_each_spelling_of_a_host_is_decided_alike_or_routed_nowhere(
    hosts: tuple[bytes, ...], ports: dict[str, int], *, routed: bool
) -> None:
    found = [(await asked(ports["BASE"], path, *hosts))[0] for path in (b"/admin", b"/")]
    assert found == [DENIED, OPEN] if routed else set(found) <= {400, 404}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://x.example/admin", b"y.example", DENIED),
        (b"HTTP://X.EXAMPLE:80/admin", b"y.example", DENIED),
        (b"http://y.example/admin", b"x.example", 404),
    ],
)
async def test_a_whole_url_in_the_request_line_decides_over_the_host_header(
    target: bytes, host: bytes, status: int, ports: dict[str, int]
) -> None:
    assert (await asked(ports["BASE"], target, host))[0] == status


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("method", "plain", "multiplexed"),
    [
        ("GET", OPEN, OPEN),
        ("DELETE", DENIED, DENIED),
        ("delete", 400, OPEN),
        ("dElEtE", 400, OPEN),
        ("UNKNOWN", 400, OPEN),
        ("PURGE", OPEN, OPEN),
    ],
)
async def test_methods_are_compared_as_they_are_or_refused(
    method: str, plain: int, multiplexed: int, ports: dict[str, int]
) -> None:
    """In HTTP/2 ``delete`` is another method than ``DELETE`` (RFC 9110, 9.1) and goes to the app as it came."""
    port = ports["BASE"]
    assert ((await asked(port, b"/", method=method.encode()))[0], await asked_2(port, method)) == (plain, multiplexed)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_tunnel_is_no_way_past_a_rule(ports: dict[str, int]) -> None:
    """CONNECT has no path; no route of a VirtualService takes it."""
    for target in (b"x.example:80", b"/admin"):
        assert (await asked(ports["BASE"], target, method=b"CONNECT"))[0] in (400, 404)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("protocol", "status"), [(b"websocket", OPEN), (b"WebSocket", OPEN), (b"h2c", OPEN), (b"other", 403)]
)
async def test_an_upgrade_is_no_way_past_a_rule(protocol: bytes, status: int, ports: dict[str, int]) -> None:
    """Envoy refuses what is not among the upgrades of a gateway, whatever the path."""
    last = (b"connection: upgrade", b"upgrade: " + protocol)
    for target in (b"/admin", b"//admin", b"/x/../admin"):
        found, _ = await asked(ports["MERGE_SLASHES"], target, last=last)
        assert (target, found) == (target, DENIED)
    assert (await asked(ports["MERGE_SLASHES"], b"/", last=last))[0] == status

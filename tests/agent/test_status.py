"""The status server on 15020, the HTTP it speaks, and the probes it passes on. Envoy and apps are small stand-ins."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from agent import envoy_admin, httpwire, metrics, probes, scrape, status
from agent.bootstrap.inputs import InputError
from agent.sds import identity
from tests.agent import pod
from wire.spiffe import Identity


@dataclass
class Server:
    """Answers each path with fixed bytes after the head, and remembers what it was asked."""

    answers: dict[str, bytes]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, fields = await httpwire.read_head(reader)
        self.asked.append((line, fields))
        path = line.split(" ")[1].partition("?")[0]
        writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
        await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(answers: dict[str, bytes], tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    found = Server(answers)
    listener = await asyncio.start_server(found.connected, "127.0.0.1", 0, ssl=tls)
    found.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield found


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def stats(**values: int) -> bytes:
    return ok("".join(f"{name.replace('__', '.')}: {value}\n" for name, value in values.items()).encode())


async def fetch(server: Server, path: str = "/") -> httpwire.Response:
    return await httpwire.request(httpwire.Target("127.0.0.1", server.port), "GET", path)


READY = {
    "cluster_manager__cds__update_success": 1,
    "listener_manager__lds__update_success": 1,
    "listener_manager__workers_started": 1,
    "server__state": 0,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"listener_manager__lds__update_success": 0}, "no configuration from istiod yet (CDS 1, LDS 0 accepted)"),
        (
            {"listener_manager__lds__update_success": 0, "listener_manager__lds__update_rejected": 1},
            "configuration came from istiod but was rejected (CDS 1, LDS 0 accepted)",
        ),
        ({"listener_manager__workers_started": 0}, "Envoy's workers have not started yet"),
        ({"server__state": 2}, "Envoy is not live (server.state 2)"),
    ],
)
async def test_readiness_is_envoys_own_statistics(changes: dict[str, int], reason: str) -> None:
    async with serving({"/stats": stats(**(READY | changes))}) as envoy:
        assert await envoy_admin.EnvoyAdmin(envoy.port).unready() == reason


async def test_a_configured_envoy_stays_so_until_another_one_starts() -> None:
    async with serving({"/stats": stats(**READY)}) as envoy:
        admin = envoy_admin.EnvoyAdmin(envoy.port)
        assert await admin.unready() == ""
        envoy.answers["/stats"] = stats(listener_manager__workers_started=1, server__state=0)
        assert await admin.unready() == ""
        admin.restarted()
        assert "no configuration" in await admin.unready()
        envoy.answers.clear()
        assert "/stats answered 404" in await admin.unready()


async def test_drain_says_which_listeners_and_whether_they_close() -> None:
    async with serving({"/drain_listeners": ok(b"OK\n")}) as envoy:
        admin = envoy_admin.EnvoyAdmin(envoy.port)
        await admin.drain(inbound_only=True, keep_listening=False)
        await admin.drain(inbound_only=False, keep_listening=True)
        assert [line for line, _ in envoy.asked] == [
            "POST /drain_listeners?inboundonly&graceful HTTP/1.1",
            "POST /drain_listeners?graceful&skip_exit HTTP/1.1",
        ]
        envoy.answers.clear()
        with pytest.raises(httpwire.HttpError, match="answered 404"):
            await admin.drain(inbound_only=False, keep_listening=False)


async def test_own_listeners_do_not_count_as_connections() -> None:
    lines = {
        "listener.0.0.0.0_15006.downstream_cx_active": 2,
        "listener.0.0.0.0_15021.downstream_cx_active": 1,
        "listener.admin.downstream_cx_active": 1,
        "listener.0.0.0.0_15006.worker_0.downstream_cx_active": 2,
    }
    body = "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()
    async with serving({"/stats": ok(body)}) as envoy:
        assert await envoy_admin.EnvoyAdmin(envoy.port).active_connections() == 2


@dataclass
class Deeds:
    """What the status server did to the agent."""

    unready: str = ""
    drained: int = 0
    ended: int = 0
    released: bool | None = None

    async def over(self) -> bool | None:
        return self.released

    async def why(self) -> str:
        return self.unready

    async def drain(self) -> None:
        self.drained += 1

    def end(self) -> None:
        self.ended += 1


@contextlib.asynccontextmanager
async def running(
    envoy: Server, declared: str = "", *apps: scrape.Endpoint, released: bool | None = None, table: bytes = b""
) -> AsyncIterator[tuple[Server, Deeds]]:
    deeds = Deeds(released=released)
    over = None if released is None else deeds.over
    actions = status.Actions(unready=deeds.why, drain=deeds.drain, quit=deeds.end, released=over, names=lambda: table)
    page = scrape.Scrape(httpwire.Target("127.0.0.1", envoy.port), apps, metrics.Metrics("1.2.3"), {"app": "me"})
    served = status.StatusServer(0, actions, page, probes.Probers(declared, "127.0.0.1"))
    await served.start()
    yield Server({}, port=served.port), deeds
    await served.stop()


async def test_readiness_is_a_status_with_its_reason() -> None:
    async with serving({}) as envoy, running(envoy) as (agent, deeds):
        assert (await fetch(agent, "/healthz/ready")).status == 200
        deeds.unready = "not yet"
        assert await fetch(agent, "/healthz/ready?verbose") == httpwire.Response(503, b"not yet\n")
        assert (await fetch(agent, "/etc/passwd")).status == 404


async def test_commands_are_posts_from_within_the_pod() -> None:
    """Row SEC31 of the hostile inputs."""
    async with serving({}) as envoy, running(envoy) as (agent, deeds):
        target = httpwire.Target("127.0.0.1", agent.port)
        assert {(await fetch(agent, path)).status for path in ("/quitquitquit", "/drain")} == {405}
        assert (deeds.drained, deeds.ended) == (0, 0)
        assert (await httpwire.request(target, "POST", "/drain")).status == 200
        assert (await httpwire.request(target, "POST", "/quitquitquit")).status == 200
        assert (deeds.drained, deeds.ended) == (1, 1)


@pytest.mark.parametrize(("released", "code"), [(None, 404), (True, 200), (False, 503)])
async def test_hooks_wait_until_nobody_sends_any_more(*, released: bool | None, code: int) -> None:
    async with serving({}) as envoy, running(envoy, released=released) as (agent, _):
        assert (await fetch(agent, "/released")).status == code


async def test_commands_from_elsewhere_are_refused() -> None:
    """Row SEC31 of the hostile inputs."""
    async with serving({}) as envoy, running(envoy) as (agent, deeds):
        for address in (own_address(), "::1"):
            for path in ("/quitquitquit", "/drain"):
                answer = await httpwire.request(httpwire.Target(address, agent.port), "POST", path)
                assert answer.status == (200 if address == "::1" else 403)
        assert (deeds.drained, deeds.ended) == (1, 1)


def own_address() -> str:
    """An address of this host that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but loopback")
        found: str = probe.getsockname()[0]
        return found


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.1.1.1", False), ("::ffff:10.1.1.1", False)],
)
def test_local_is_loopback_in_every_spelling(address: str, *, local: bool) -> None:
    assert status.is_local(address) is local


async def test_a_client_that_leaves_or_talks_nonsense_harms_nobody() -> None:
    async with serving({}) as envoy, running(envoy) as (agent, _):
        _, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.write(b"x" * 100_000)
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.write(b"GET /healthz/ready HTTP/1.1\r\nA: b\nC: d\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.write(b"nonsense\r\n\r\n")
        assert b" 404 " in await reader.read(-1)
        writer.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    async def sign() -> identity.Certificate:
        async with pod.istiod() as control:
            who = Identity("cluster.local", "default", "app")

            async def own(csr: str) -> tuple[str, ...]:
                return control.ca.sign(csr, who, pod.dt.timedelta(hours=1), pod.now())

            return await identity.obtain(own, who)

    found = asyncio.run(sign())
    (folder / "app.pem").write_bytes(found.key + found.chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "app.pem")
    return context


async def test_app_probes_are_asked_as_declared(tmp_path: Path) -> None:
    """Row SEC30 of the hostile inputs."""
    tls = await asyncio.to_thread(self_signed, tmp_path)
    async with (
        serving({"/live": ok(b""), "/dead": b"HTTP/1.1 599 \r\n\r\n"}) as app,
        serving({"/": ok(b"")}, tls) as https,
    ):
        declared = {
            "/app-health/a/livez": {
                "httpGet": {"port": app.port, "path": "live", "httpHeaders": [{"name": "X-A", "value": "b"}]}
            },
            "/app-health/a/readyz": {"httpGet": {"port": app.port, "path": "/dead"}, "timeoutSeconds": 3},
            "/app-health/a/startupz": {"tcpSocket": {"port": app.port}},
            "/app-health/b/livez": {"tcpSocket": {"port": 1}},
            "/app-health/c/livez": {"httpGet": {"port": https.port, "scheme": "HTTPS"}},
            "/app-health/d/livez": {"httpGet": {"port": 1}},
        }
        async with serving({}) as envoy, running(envoy, json.dumps(declared)) as (agent, _):
            answers = [(await fetch(agent, path)).status for path in declared]
            assert answers == [200, 599, 200, 503, 200, 503]
            assert (await fetch(agent, "/app-health/other/livez")).status == 404
        assert app.asked[0][0] == "GET /live HTTP/1.1"
        assert app.asked[0][1]["x-a"] == "b"


async def test_a_redirect_within_the_app_is_followed_and_one_elsewhere_is_a_success() -> None:
    def to(location: str) -> bytes:
        return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()

    async with serving({"/old": to("/new?a=b"), "/new": b"HTTP/1.1 500 \r\n\r\n", "/loop": to("/loop")}) as app:
        app.answers |= {"/away": to("http://192.0.2.1/"), "/odd": to("http://["), "/none": to("")}
        app.answers["/self"] = to(f"http://127.0.0.1:{app.port}/new")
        paths = {"/old": 500, "/self": 500, "/loop": 503, "/away": 200, "/odd": 200, "/none": 200}
        declared = {path: {"httpGet": {"port": app.port, "path": path}} for path in paths}
        probers = probes.Probers(json.dumps(declared), "127.0.0.1")
        assert {path: await probers.probe(path, {}) for path in paths} == paths
        assert "GET /new?a=b HTTP/1.1" in [line for line, _ in app.asked]


async def test_a_declared_host_header_is_the_one_that_the_app_gets() -> None:
    async with serving({"/": ok(b"")}) as app:
        get = {
            "port": str(app.port),
            "httpHeaders": [{"name": "HOST", "value": "a.example"}, {"name": "X", "value": "1"}],
        }
        probers = probes.Probers(json.dumps({"/p": {"httpGet": get}}), "127.0.0.1")
        hop = {"te": "trailers", "transfer-encoding": "chunked", "upgrade": "h2c", "expect": "100-continue"}
        assert await probers.probe("/p", {"host": "kubelet", "x": "2", "user-agent": "kube-probe/1.36"} | hop) == 200
        assert hop.keys().isdisjoint(app.asked[0][1])
        assert app.asked[0][1]["host"] == "a.example"
        assert (app.asked[0][1]["x"], app.asked[0][1]["user-agent"]) == ("1", "kube-probe/1.36")


async def test_a_probe_takes_as_long_as_it_may_and_no_longer() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()
        left.set()

    left = asyncio.Event()
    listener = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        probers = probes.Probers(json.dumps({"/p": {"httpGet": {"port": port}, "timeoutSeconds": 0.1}}), "127.0.0.1")
        before = asyncio.get_running_loop().time()
        assert await probers.probe("/p", {}) == 503
        assert asyncio.get_running_loop().time() - before < 5
        await left.wait()


async def test_hooks_of_the_app_are_asked_as_probes_are() -> None:
    async with serving({"/bye": ok(b"")}) as app, serving({}) as envoy:
        declared = {"/app-lifecycle/a/prestopz": {"httpGet": {"port": app.port, "path": "/bye"}}}
        async with running(envoy, json.dumps(declared)) as (agent, _):
            assert (await fetch(agent, "/app-lifecycle/a/prestopz")).status == 200
            assert (await fetch(agent, "/app-lifecycle/b/prestopz")).status == 404


async def test_a_port_name_that_no_container_has_fails_the_probe_not_the_pod() -> None:
    assert await probes.Probers('{"/p": {"tcpSocket": {"port": "web"}}}', "127.0.0.1").probe("/p", {}) == 503


async def test_grpc_probes_ask_the_health_service() -> None:
    asked, callers = [], set()

    async def check(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        asked.append(request)
        callers.add(context.peer().rpartition(":")[0])
        return b"\x08\x01" if request == b"\x0a\x01s" else b"\x08\x02"

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    names = {"/a": "s", "/b": "", "/c": "n" * 300}
    declared = {path: {"grpc": {"port": port, "service": name}} for path, name in names.items()}
    declared["/d"] = {"grpc": {"port": 1}}
    probers = probes.Probers(json.dumps(declared), "127.0.0.1")
    assert [await probers.probe(path, {}) for path in declared] == [200, 503, 503, 503]
    assert asked == [b"\x0a\x01s", b"", b"\x0a\xac\x02" + b"n" * 300]
    assert callers == {"ipv4:127.0.0.6"}, "the pod's rules would redirect any other"
    await server.stop(None)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("{", "is no JSON"),
        ("[]", "must be a JSON object"),
        ('{"/p": {}}', "/p is no probe"),
        ('{"/p": {"exec": {}}}', "/p is no probe"),
        ('{"/p": {"grpc": 1}}', "/p is no probe"),
        ('{"/p": {"tcpSocket": {"port": 70000}}}', "70000 is no port"),
    ],
)
def test_declarations_that_are_none_are_named(declared: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        probes.Probers(declared, "127.0.0.1")

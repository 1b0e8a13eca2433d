"""A gateway that passes mesh mTLS through by its server name, for any name that a client may say (SEC59)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.harness.ports import free_ports
from tests.envoy.test_real_dynamic_dns import running
from tests.mesh import fleet
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = "outbound_.80_._.web.local"
GREETING = b"\x16\x03"
"""How a TLS connection begins: what comes through is the client's own handshake."""


class Backend:
    """Counts connections, and says whether they began with a handshake."""

    def __init__(self) -> None:
        self.began: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.began.append(await reader.readexactly(2))
        writer.close()


def entry(name: str, host: str, port: int, *, mesh: bool = True, namespace: str = "default", **more: object) -> str:
    labels = {"security.istio.io/tlsMode": "istio"} if mesh else {}
    spec = {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": port}],
        "endpoints": [{"address": "127.0.0.1", "labels": labels}],
        **more,
    }
    return fleet.istio("ServiceEntry", name, spec, namespace)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[int, Backend]]:
    backend = Backend()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    (port,) = free_ports(1)
    listens = {"number": port, "name": "tls", "protocol": "TLS"}
    servers = [{"port": listens, "hosts": ["*.local"], "tls": {"mode": "AUTO_PASSTHROUGH"}}]
    async with running(tmp_path_factory.mktemp("passthrough"), "router") as world:
        await world.settle(
            fleet.istio("Gateway", "own", {"selector": {"app": "client"}, "servers": servers}),
            entry("web", "web.local", target),
            entry("plain", "plain.local", target, mesh=False),
            entry("outside", "outside.example", target),
            entry("private", "private.local", target, namespace="other", exportTo=["."]),
            entry("external", "external.local", target, location="MESH_EXTERNAL"),
        )

        async def comes() -> bool:
            return await reached(port, backend, WEB)

        await until(comes, "a connection through")
        yield port, backend
    server.close()


async def reached(port: int, backend: Backend, name: str | None, protocols: tuple[str, ...] = ("istio",)) -> bool:
    """Whether a handshake with this server name reaches what stands behind the gateway."""
    backend.began.clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with contextlib.suppress(OSError, ssl.SSLError):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
        writer.close()
    return GREETING in backend.began


@pytest.mark.parametrize(
    "name",
    [
        "outbound_.80_._.plain.local",
        "outbound_.80_._.outside.example",
        "outbound_.80_._.private.local",
        "outbound_.80_._.external.local",
        "outbound_.81_._.web.local",
        "outbound_.80_.v1_.web.local",
        "inbound_.80_._.web.local",
        "web.local",
        "x.outbound_.80_._.web.local",
        "outbound_.80_._.web.local.x",
        "kubernetes.default.svc.cluster.local",
        "outbound_.443_._.kubernetes.default.svc.cluster.local",
        "a.local",
        None,
    ],
)
async def test_no_other_name_leads_anywhere(name: str | None, gateway: tuple[int, Backend]) -> None:
    """Not to services that speak plaintext, are not in the mesh, are not exported to the gateway, or not its hosts."""
    assert not await reached(*gateway, name)


async def test_mesh_mtls_comes_through_as_it_is(gateway: tuple[int, Backend]) -> None:
    assert await reached(*gateway, WEB)
    assert await reached(*gateway, WEB.upper()), "names are compared without case"


@pytest.mark.parametrize("protocols", [(), ("h2",), ("http/1.1",)])
async def test_what_is_no_mesh_mtls_does_not(protocols: tuple[str, ...], gateway: tuple[int, Backend]) -> None:
    assert not await reached(*gateway, WEB, protocols)

"""What a gateway offers in TLS handshakes where a token has a request's route chosen anew (filters/alpn.py)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from e2e.harness.ports import free_ports
from istiod.mesh.policy import TlsMode
from istiod.mesh.route import ClaimMatch, Destination, DirectResponse, MatchKind, RouteMatch, StringMatch
from istiod.mesh.scope import Cluster, Direction, Discovery, Http, UpstreamTls
from tests.envoy import made
from tests.envoy.guarded import Certificates
from tests.envoy.test_real_jwt import PLAIN, RSA, Front, at, up
from tests.envoy.test_running_envoy import running
from tests.waiting import until

pytestmark = pytest.mark.envoy


async def test_a_gateway_offers_protocols_by_the_route_that_a_token_leads_to(tmp_path: Path) -> None:
    """Not by the one before: an external server gets no names of Istio's, a sidecar always does."""
    offered: dict[str, str | None] = {}
    async with tls_servers(tmp_path, ("mesh", "external"), offered) as ports, aiohttp.ClientSession() as http:
        (port,) = free_ports(1)
        table = made.table(made.virtual_host(routes=tuple(token_routes()), domains=("*",)))
        served = at(port, Direction.GATEWAY, Http(stat_prefix="x", inline=table, tokens=(PLAIN,)))
        async with running(tmp_path, made.QUIET, served, *(over_tls(name, at_) for name, at_ in ports.items())):
            found = Front(f"http://127.0.0.1:{port}", http)
            await until(lambda: up(found), "Envoy listens")
            for before in ("/none", "/answer", "/out", "/in", "/shared"):
                for to, protocol in (("mesh", "istio-http/1.1"), ("external", "http/1.1")):
                    offered.clear()
                    await found.ask(RSA.token(group=to), before, connection="close")
                    assert offered == {to: protocol}, before
            offered.clear()
            await found.ask(RSA.token(group="both"), "/none", connection="close")
            await found.ask(RSA.token(group="both"), "/none", connection="close")
            assert set(offered.items()) <= {("mesh", "istio-http/1.1"), ("external", "http/1.1")}


def token_routes() -> Iterator[Any]:
    """To where a claim says, before those of everybody."""
    to = {
        name: made.to(Destination(cluster=name, host=name, port=1, mesh_tls=name == "mesh"))
        for name in ("mesh", "external")
    }
    both = (*to["mesh"], *to["external"])
    for group, where in (*to.items(), ("both", both)):
        said = StringMatch(kind=MatchKind.EXACT, value=group)
        yield made.route(
            match=RouteMatch(claims=(ClaimMatch(path=("group",), match=said),)), destinations=where, at_gateway=True
        )
    answer = DirectResponse(status=204, body=b"")
    yield made.route(match=RouteMatch(path=StringMatch(kind=MatchKind.PREFIX, value="/answer")), direct_response=answer)
    for path, where in (("/out", to["external"]), ("/in", to["mesh"]), ("/shared", both)):
        match = RouteMatch(path=StringMatch(kind=MatchKind.PREFIX, value=path))
        yield made.route(match=match, destinations=where, at_gateway=True)


@contextlib.asynccontextmanager
async def tls_servers(
    folder: Path, names: tuple[str, ...], chosen: dict[str, str | None]
) -> AsyncIterator[dict[str, int]]:
    """Servers that note which protocol was settled on, and end the connection."""
    chain, key = Certificates(folder).of("cluster.local/ns/foo/sa/web")
    async with contextlib.AsyncExitStack() as stack:
        ports = {}
        for name in names:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(chain, key)
            context.set_alpn_protocols(["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"])

            async def note(reader: Any, writer: Any, name: str = name) -> None:
                chosen[name] = writer.get_extra_info("ssl_object").selected_alpn_protocol()
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
                writer.close()

            server = await stack.enter_async_context(await asyncio.start_server(note, "127.0.0.1", 0, ssl=context))
            ports[name] = server.sockets[0].getsockname()[1]
        yield ports


def over_tls(name: str, port: int) -> Cluster:
    """A cluster that offers HTTP/1.1, where nothing else is said."""
    tls = UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)
    endpoints = (made.endpoint("127.0.0.1", port=port),)
    return Cluster(
        name=name, discovery=Discovery.STATIC, direction=Direction.OUTBOUND, port=port, endpoints=endpoints, tls=tls
    )

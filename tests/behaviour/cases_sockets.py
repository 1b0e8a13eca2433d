"""Options of connections that no server sees, and tunnels through a proxy that opens them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tests.behaviour import sockets, world
from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import policy
from tests.behaviour.cases_mesh import mesh
from tests.behaviour.cases_pools import BESIDE, pool
from tests.behaviour.rig import Rig, address
from tests.behaviour.sockets import Keepalive

CASES = Cases()
PROBES = "tcpKeepalive: {probes: 4, time: 50s, interval: 7s}"
PROBED = Keepalive(probes=4, time=50, interval=7)
SHOP = 4


@CASES(policy(f"connectionPool: {{tcp: {{{PROBES}}}}}", "shop"), r".*\.host")
async def idle_connections_are_probed(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).body == "shop-1"
    assert PROBED in sockets.probed(rig.envoys["client"].pid, address(SHOP), world.APP)


@CASES(mesh(PROBES))
async def idle_connections_of_the_mesh_are_probed(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).body == "shop-1"
    assert PROBED in sockets.probed(rig.envoys["client"].pid, address(SHOP), world.APP)


@CASES(pool(f"tcp: {{{PROBES}}}"), *BESIDE)
async def idle_connections_to_the_app_are_probed(rig: Rig) -> None:
    assert (await rig.ask(port="in")).body == "local"
    assert PROBED in sockets.probed(rig.envoys["server"].pid, "127.0.0.1", rig.ports["local"])


TUNNEL = """
---
kind: ServiceEntry
spec:
  hosts: [proxy.example]
  resolution: STATIC
  ports: [{number: $auto, name: tcp, protocol: TCP, targetPort: $lines}]
  endpoints: [{address: $ip7}]
"""
ENTRY = r"ServiceEntry.*"


@contextlib.asynccontextmanager
async def _proxy(rig: Rig) -> AsyncIterator[None]:
    """An HTTP proxy at an address where nobody listens else."""
    server = await rig.servers.proxy("proxy", address(7), world.LINES)
    try:
        yield
    finally:
        server.close()


@CASES(
    policy("tunnel: {protocol: CONNECT, targetHost: a.example, targetPort: 99}", "proxy.example", TUNNEL),
    ENTRY,
    r".*(\.host|protocol)",
)
async def bytes_go_both_ways_through_a_tunnel(rig: Rig) -> None:
    async with _proxy(rig):
        assert await rig.line("auto") == "proxy:hello"
    assert rig.servers.greetings[0][1].startswith(b"CONNECT a.example:99 HTTP/1.1\r\n")


@CASES(
    policy("tunnel: {protocol: POST, targetHost: a.example, targetPort: 99}", "proxy.example", TUNNEL),
    ENTRY,
    r".*(\.host|targetPort)",
)
async def bytes_go_both_ways_through_a_posted_tunnel(rig: Rig) -> None:
    async with _proxy(rig):
        assert await rig.line("auto") == "proxy:hello"
    head = rig.servers.greetings[0][1]
    assert head.startswith(b"POST ")
    assert b"a.example:99" in head

"""Protocols that ports are said to speak, where they listen, and tunnels."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import policy
from tests.behaviour.cases_l4 import MESH, STRICT, entry
from tests.behaviour.cases_sidecar import OWN, THE_SERVER, sidecar
from tests.behaviour.rig import Rig

CASES = Cases()
HTTP = "HTTP/1.1 400 Bad Request"
"""What comes back for a line that is no HTTP where HTTP is spoken; elsewhere it goes on to the server."""


@CASES(
    entry(
        "resolution: STATIC\n  endpoints: [{address: $ip4}]",
        "{number: $auto, name: any, protocol: HTTP, targetPort: $lines}",
    ),
    r".*(hosts|resolution|number|name|targetPort|endpoints.*)",
)
async def an_entrys_port_speaks_http_only(rig: Rig) -> None:
    assert (await rig.line("auto")) == HTTP


@CASES(
    entry("addresses: [10.9.9.9]\n  resolution: STATIC\n  endpoints: [{address: $ip4}]") + STRICT,
    MESH,
    r".*(hosts|resolution|ports.*|endpoints.*)",
)
async def an_entrys_address_is_a_name_of_it(rig: Rig) -> None:
    assert (await rig.ask(host="10.9.9.9")).body == "shop-1"


@CASES(
    """
kind: ServiceEntry
spec:
  hosts: [secure.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: $mtls, name: http, protocol: HTTP, targetPort: $meshapp}]
  endpoints: [{address: $ip6, labels: {security.istio.io/tlsMode: istio}}]
""",
    r".*(hosts|resolution|ports.*|endpoints.*)",
)
async def an_entry_inside_of_the_mesh(rig: Rig) -> None:
    await rig.ask(port="mtls", host="secure.example")
    assert [one.tls is not None for one in rig.servers.seen] == [True]


@CASES(
    """
kind: Sidecar
metadata: {name: server}
spec:
  workloadSelector: {labels: {app: server}}
  ingress:
  - port: {number: $intcp, protocol: HTTP, name: any}
    bind: 127.0.0.1
    defaultEndpoint: "127.0.0.1:$locallines"
  egress: [{hosts: ["~/*"]}]
""",
    *THE_SERVER,
    r".*(number|name|bind|defaultEndpoint)",
)
async def what_comes_in_is_http_only(rig: Rig) -> None:
    assert (await rig.line("intcp")) == HTTP


@CASES(
    sidecar("egress: [{port: {number: $http, protocol: HTTP, name: http}, bind: 127.0.0.1, hosts: ['./*']}]"),
    OWN,
    r".*(hosts|bind|port\.name|protocol)",
)
async def only_this_port_goes_out(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).body == "shop-1"
    assert (await rig.ask(port="http3")).status == 0


TUNNEL = "tunnel: {protocol: %s, targetHost: a.example, targetPort: 99}"


async def _greeting(rig: Rig) -> bytes:
    await rig.line("tcp2")
    assert rig.servers.greetings, rig.findings()
    return rig.servers.greetings[0][1]


@CASES(policy(TUNNEL % "CONNECT", "shop"), r".*(\.host|protocol)")
async def connections_go_through_a_tunnel(rig: Rig) -> None:
    found = await _greeting(rig)
    assert found.startswith(b"CONNECT a.example:99 HTTP/1.1"), found


@CASES(policy(TUNNEL % "POST", "shop"), r".*(\.host|target.*)")
async def connections_go_through_a_posted_tunnel(rig: Rig) -> None:
    assert (await _greeting(rig)).startswith(b"POST ")

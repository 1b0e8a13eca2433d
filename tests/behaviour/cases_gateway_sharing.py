"""Gateway: protocols by which clients come over HTTP/2, hosts that are addresses, and servers that share a port."""

from __future__ import annotations

import struct

from tests.behaviour.case import Cases
from tests.behaviour.cases_gateway import FILES, ROUTED, RULE, gateway
from tests.behaviour.cases_gateway_protocols import LINES
from tests.behaviour.client import Ask, ask2, trusting
from tests.behaviour.rig import Rig

CASES = Cases()
H2 = ROUTED.replace("shop, port: {number: $http}", "web, port: {number: $http2}")
GRPC = {"content-type": "application/grpc", "te": "trailers"}


def _spoken(protocol: str) -> None:
    async def check(rig: Rig) -> None:
        said = Ask(port=rig.ports["gw"], path="/a.B/C", host="a.example", method="POST", headers=GRPC)
        back = await ask2(said)
        assert (back.status, back.body.partition("-")[0]) == (200, "web")
        seen = rig.servers.seen[-1]
        assert (seen.protocol, seen.path, seen.headers["te"]) == ("2", "/a.B/C", "trailers")

    check.__name__ = f"a_gateway_speaks_{protocol.lower()}"
    server = f"{{port: {{number: $gw, name: a, protocol: {protocol}}}, hosts: ['*']}}"
    CASES(gateway(server, H2), RULE, r".*(port\.(name|number)|hosts|selector)")(check)


for _protocol in ("GRPC", "HTTP2"):
    _spoken(_protocol)


@CASES(
    gateway("{port: {number: $gwtcp, name: db, protocol: MONGO}, hosts: ['*']}", LINES),
    r"VirtualService.*",
    r".*(port\.(name|number)|hosts|selector)",
)
async def a_gateway_counts_what_is_said_to_a_database(rig: Rig) -> None:
    """A message with a command that it does not know is counted, too, and goes on."""
    before = await rig.stat(r"mongo\..*decoding_error", "gw")
    said = struct.pack("<4i", 16, 1, 0, 9999).decode()
    assert (await rig.line("gwtcp", said)).partition("-")[0] in ("shop", "web")
    assert await rig.stat(r"mongo\..*decoding_error", "gw") > before


ADDRESS = """
---
kind: VirtualService
spec:
  hosts: [192.0.2.7]
  gateways: [case-0]
  http: [{route: [{destination: {host: shop, port: {number: $http}}}]}]
"""


@CASES(
    gateway("{port: {number: $gw, name: http, protocol: HTTP}, hosts: ['*']}", ADDRESS),
    r"Gateway.*",
    r".*(gateways|http.*)",
)
async def a_host_that_is_an_address(rig: Rig) -> None:
    assert (await rig.ask(port="gw", host="192.0.2.7")).body == "shop-1"
    assert (await rig.ask(port="gw", host=f"192.0.2.7:{rig.ports['gw']}")).body == "shop-1"
    assert (await rig.ask(port="gw", host="192.0.2.8")).status == 404


SHARED = """
kind: Gateway
metadata: {name: old, creationTimestamp: '2024-01-01T00:00:00Z'}
spec: {selector: {app: gw}, servers: [{port: {number: $gwtcp, name: a, protocol: %s}, hosts: ['*']}]}
---
kind: Gateway
metadata: {name: young, creationTimestamp: '2025-01-01T00:00:00Z'}
spec: {selector: {app: gw}, servers: [{port: {number: $gwtcp, name: b, protocol: %s}, hosts: ['*']}]}
---
kind: VirtualService
spec:
  hosts: ['*']
  gateways: [old, young]
  http: [{route: [{destination: {host: shop, port: {number: $http}}}]}]
  tcp: [{match: [{port: $gwtcp}], route: [{destination: {host: shop, port: {number: $tcp2}}}]}]
"""


def _left_out(rig: Rig) -> bool:
    """Whether the younger Gateway is told."""
    return any("Gateway default/old, which is older" in finding for finding in rig.findings())


@CASES(SHARED % ("HTTP", "TCP"), r".*")
async def of_two_protocols_on_a_port_the_older_is_spoken(rig: Rig) -> None:
    assert (await rig.ask(port="gwtcp", host="a.example")).body == "shop-1"
    assert await rig.line("gwtcp") == "HTTP/1.1 400 Bad Request"
    assert _left_out(rig)


@CASES(SHARED % ("TCP", "HTTP"), r".*")
async def of_two_protocols_on_a_port_the_older_is_opaque(rig: Rig) -> None:
    assert await rig.line("gwtcp") == "shop-1:hello"
    assert await rig.line("gwtcp", "GET / HTTP/1.1") == "shop-1:GET / HTTP/1.1"
    assert _left_out(rig)


CERTIFIED = f"""
kind: Gateway
metadata: {{name: old, creationTimestamp: '2024-01-01T00:00:00Z'}}
spec:
  selector: {{app: gw}}
  servers:
  - {{port: {{number: $gwtls, name: a, protocol: HTTPS}}, hosts: [a.example], tls: {{mode: SIMPLE, {FILES}}}}}
---
kind: Gateway
metadata: {{name: young, creationTimestamp: '2025-01-01T00:00:00Z'}}
spec:
  selector: {{app: gw}}
  servers:
  - port: {{number: $gwtls, name: b, protocol: HTTPS}}
    hosts: [a.example, b.example]
    tls: {{mode: SIMPLE, {FILES.replace("a.example", "b.example")}}}
""" + ROUTED.replace("case-0", "old, young")


@CASES(CERTIFIED, r".*")
async def a_name_is_the_older_servers(rig: Rig) -> None:
    """The younger one serves what is left to it."""
    for name in ("a.example", "b.example"):
        back = await rig.ask(port="gwtls", host=name, tls=trusting(rig.path("roots.pem")))
        assert (back.body, back.certificate) == ("shop-1", (name,))
    assert any("Gateway default/old has a.example already" in finding for finding in rig.findings())


EARLY = """
---
kind: EnvoyFilter
spec:
  workloadSelector: {labels: {app: gw}}
  configPatches:
  - applyTo: NETWORK_FILTER
    match:
      context: GATEWAY
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: MERGE
      value:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          early_header_mutation_extensions:
          - name: traces
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations: [{remove: x-b3-traceid}, {remove: x-b3-spanid}, {remove: x-b3-sampled}, {remove: traceparent}]
"""
FORGED = {
    "x-b3-traceid": "0af7651916cd43dd8448eb211c80319c",
    "x-b3-spanid": "b7ad6b7169203331",
    "x-b3-sampled": "1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
OPEN = "{port: {number: $gw, name: http, protocol: HTTP}, hosts: ['*']}"


@CASES(gateway(OPEN), r".*")
async def a_clients_trace_goes_on_at_a_gateway(rig: Rig) -> None:
    """As on Istio: what is in front of the gateway may be part of the trace."""
    await rig.ask(port="gw", host="a.example", headers=FORGED)
    assert FORGED.items() <= rig.servers.seen[-1].headers.items()


@CASES(gateway(OPEN, ROUTED + EARLY), r".*")
async def a_gateway_believes_no_clients_trace(rig: Rig) -> None:
    """As docs/security.md says it for gateways that face strangers (SEC60): nothing is left when tracing looks."""
    await rig.ask(port="gw", host="a.example", headers=FORGED)
    assert not FORGED.keys() & rig.servers.seen[-1].headers.keys()

"""EnvoyFilter: which chains, listener filters, tables and routes a patch is for, by what traffic shows of it."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_gateway import FILES, ROUTED
from tests.behaviour.cases_patches import MANAGER, patch
from tests.behaviour.cases_sidecar import mutual
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig

CASES = Cases()
OTHERS = r"(Gateway|VirtualService|ServiceEntry|MeshConfig).*"
TWO = f"""
---
kind: Gateway
metadata: {{name: one}}
spec:
  selector: {{app: gw}}
  servers:
  - port: {{number: $gwtls, name: https-a, protocol: HTTPS}}
    hosts: [a.example]
    tls: {{mode: SIMPLE, {FILES}}}
---
kind: Gateway
metadata: {{name: two}}
spec:
  selector: {{app: gw}}
  servers:
  - port: {{number: $gwtls, name: https-b, protocol: HTTPS}}
    hosts: [b.example]
    tls: {{mode: SIMPLE, {FILES}}}
""" + ROUTED.replace("case-0", "one, two")


async def _https(rig: Rig, name: str) -> Reply:
    return await rig.ask(port="gwtls", host=name, tls=trusting(rig.path("roots.pem")))


MARK = 'patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}'


def _gateways(name: str, place: str) -> None:
    async def check(rig: Rig) -> None:
        assert (await _https(rig, "a.example")).headers["x-patched"] == "1"
        assert "x-patched" not in (await _https(rig, "b.example")).headers

    check.__name__ = f"a_table_of_gateways_by_its_{name}"
    match = f"match: {{context: GATEWAY, routeConfiguration: {{{place}}}}}"
    text = patch(f"applyTo: VIRTUAL_HOST\n    {match}\n    {MARK}", TWO).replace("app: client", "app: gw", 1)
    CASES(text, OTHERS, r".*(context|labels)")(check)


_gateways("port_name", "portName: https-a")
_gateways("gateway", "gateway: default/one")

REMOVED = """applyTo: FILTER_CHAIN
    match: {context: GATEWAY, listener: {filterChain: {%s}}}
    patch: {operation: REMOVE}"""


@CASES(patch(REMOVED % "sni: b.example", TWO).replace("app: client", "app: gw", 1), OTHERS, r".*(context|labels)")
async def a_chain_by_its_server_name(rig: Rig) -> None:
    assert (await _https(rig, "a.example")).body == "shop-1"
    assert (await _https(rig, "b.example")).status == 0


@CASES(
    patch(
        f"applyTo: HTTP_ROUTE\n    match: {{context: SIDECAR_OUTBOUND,"
        f" routeConfiguration: {{vhost: {{route: {{action: REDIRECT}}}}}}}}\n    {MARK}",
        """
---
kind: VirtualService
spec: {hosts: [web], http: [
  {match: [{uri: {prefix: /s}}], redirect: {uri: /t}},
  {route: [{destination: {host: web}}]}]}
""",
    ),
    OTHERS,
    r".*(context|labels)",
)
async def routes_that_redirect(rig: Rig) -> None:
    assert (await rig.ask("/s")).headers["x-patched"] == "1"
    assert "x-patched" not in (await rig.ask()).headers


ANY = """
---
kind: ServiceEntry
spec:
  hosts: [silent.example]
  resolution: STATIC
  ports: [{number: $auto, name: any, targetPort: $lines}]
  endpoints: [{address: $ip4}]
---
kind: MeshConfig
spec: {protocolDetectionTimeout: 0.3s}
"""
"""The listener detects which protocol its clients speak: chains for HTTP and one for the rest."""


@CASES(
    patch(
        """applyTo: LISTENER_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {portNumber: $auto, listenerFilter: envoy.filters.listener.http_inspector}
    patch: {operation: REMOVE}""",
        ANY,
    ),
    OTHERS,
    r".*(context|labels|portNumber)",
)
async def a_listener_filter_by_its_name(rig: Rig) -> None:
    """Nobody detects HTTP: a request goes on as bytes."""
    found = await rig.line("auto", "GET / HTTP/1.1\r\nhost: x\r\n\r")
    assert found == "shop-1:GET / HTTP/1.1"


@CASES(
    patch(
        """applyTo: FILTER_CHAIN
    match: {context: SIDECAR_OUTBOUND, listener: {portNumber: $auto, filterChain: {applicationProtocols: http/1.1}}}
    patch: {operation: REMOVE}""",
        ANY,
    ),
    OTHERS,
    r".*(context|labels|portNumber)",
)
async def a_chain_by_its_protocols(rig: Rig) -> None:
    """HTTP goes on as bytes, everything else as always."""
    assert await rig.line("auto", "GET / HTTP/1.1\r\nhost: x\r\n\r") == "shop-1:GET / HTTP/1.1"
    assert await rig.line("auto") == "shop-1:hello"


@CASES(
    patch(
        f"""applyTo: NETWORK_FILTER
    match: {{context: SIDECAR_OUTBOUND, listener: {{filterChain: {{filter: {{{MANAGER}}}}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.network.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit
          stat_prefix: connections
          token_bucket: {{max_tokens: 1, tokens_per_fill: 1, fill_interval: 100s}}"""
    ),
    r".*(context|labels)",
)
async def a_network_filter_by_its_name(rig: Rig) -> None:
    """The second connection is one too many; connections without HTTP have no limit."""
    assert [(await rig.ask(host="shop")).status for _ in range(3)] == [200, 0, 0]
    assert [await rig.line("tcp2") for _ in range(3)] == ["shop-1:hello"] * 3


@CASES(
    patch(
        f"""applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {{filterChain: {{filter: {{{MANAGER}, subFilter: {{name: envoy.filters.http.fault}}}}}}}}
    patch: {{operation: REMOVE}}""",
        """
---
kind: VirtualService
spec:
  hosts: [web]
  http: [{fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: web}}]}]
""",
    ),
    OTHERS,
    r".*(context|labels|filter\.name)",
)
async def an_http_filter_by_its_name(rig: Rig) -> None:
    assert (await rig.ask()).status == 200


@CASES(
    patch(
        """applyTo: FILTER_CHAIN
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {transportProtocol: raw_buffer}}}
    patch: {operation: REMOVE}"""
    ).replace("app: client", "app: server", 1),
    r".*(context|labels)",
)
async def a_chain_by_its_transport(rig: Rig) -> None:
    """Plaintext has no way in any more."""
    assert (await rig.ask(port="in")).status == 0
    assert (await mutual(rig)).body == "local"

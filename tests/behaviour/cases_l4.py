"""VirtualService: rules of TCP and TLS connections; ServiceEntry: hosts from outside and where they are."""

from __future__ import annotations

from collections import Counter

from tests.behaviour.case import Cases
from tests.behaviour.client import trusting
from tests.behaviour.rig import Rig

CASES = Cases()
SUBSETS = """
---
kind: DestinationRule
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""
RULE = r"DestinationRule.*"


async def _who(rig: Rig, count: int = 1, **said: object) -> Counter[str]:
    return Counter([(await rig.line(**said)).partition(":")[0] for _ in range(count)])  # type: ignore[arg-type]  # by name


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  tcp:
  - route:
    - {destination: {host: web, subset: v1, port: {number: $tcp}}, weight: 30}
    - {destination: {host: shop, port: {number: $tcp2}}, weight: 70}
"""
    + SUBSETS,
    RULE,
    r".*web.*",
)
async def tcp_weights_by_counting(rig: Rig) -> None:
    found = await _who(rig, 100)
    assert set(found) == {"web-1", "shop-1"}
    assert 14 <= found["web-1"] <= 48


TCP_MATCHES = {
    "destination_subnets": ("destinationSubnets: [127.0.0.0/8]", "destinationSubnets: [10.0.0.0/8]"),
    "port": ("port: $tcp", "port: $tcp2"),
    "source_labels": ("sourceLabels: {app: client}", "sourceLabels: {app: other}"),
    "source_namespace": ("sourceNamespace: default", "sourceNamespace: other"),
    "gateways": ("gateways: [mesh]", "gateways: [gw]"),
}


def _selecting(name: str, here: str, elsewhere: str) -> None:
    async def check(rig: Rig) -> None:
        assert await _who(rig) == {"shop-1": 1}

    check.__name__ = f"tcp_match_{name}"
    CASES(
        f"""
kind: VirtualService
spec:
  hosts: [web]
  gateways: [mesh, gw]
  tcp:
  - {{match: [{{{elsewhere}}}], route: [{{destination: {{host: web, port: {{number: $tcp}}}}}}]}}
  - {{match: [{{{here}}}], route: [{{destination: {{host: shop, port: {{number: $tcp2}}}}}}]}}
""",
        r".*gateways",
        r".*(route.*|hosts)",
    )(check)


for _name, _both in TCP_MATCHES.items():
    if _name != "gateways":
        _selecting(_name, *_both)


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  gateways: [mesh, gw]
  tcp:
  - {match: [{gateways: [gw]}], route: [{destination: {host: web, port: {number: $tcp}}}]}
  - {match: [{gateways: [mesh]}], route: [{destination: {host: shop, port: {number: $tcp2}}}]}
""",
    r".*spec\.(gateways|hosts)",
    r".*route.*",
)
async def tcp_match_gateways(rig: Rig) -> None:
    assert await _who(rig) == {"shop-1": 1}


OUTSIDE = """
kind: ServiceEntry
spec:
  hosts: [a.example, b.example]
  resolution: STATIC
  ports: [{number: $auto, name: tls, protocol: TLS, targetPort: $tlsapp}]
  endpoints: [{address: $ip1}]
"""
ENTRY = r"ServiceEntry.*"


async def _over_tls(rig: Rig, name: str, port: str = "auto") -> str:
    return (await rig.ask(port=port, host=name, tls=trusting())).body


@CASES(
    OUTSIDE
    + """
---
kind: VirtualService
spec:
  hosts: [a.example, b.example]
  tls:
  - match: [{sniHosts: [a.example]}]
    route: [{destination: {host: a.example, port: {number: $auto}}}]
  - match: [{sniHosts: [b.example]}]
    route: [{destination: {host: web, subset: v2, port: {number: $tls}}}]
"""
    + SUBSETS,
    ENTRY,
    RULE,
    r".*hosts",
    r".*destination\.(port|subset).*",
)
async def tls_by_server_name(rig: Rig) -> None:
    assert await _over_tls(rig, "a.example") == "web-1"
    assert await _over_tls(rig, "b.example") in ("web-2", "web-3")


@CASES(
    OUTSIDE
    + """
---
kind: VirtualService
spec:
  hosts: [a.example]
  tls:
  - match: [{sniHosts: [a.example], port: $auto}]
    route:
    - {destination: {host: web, subset: v1, port: {number: $tls}}, weight: 30}
    - {destination: {host: web, subset: v2, port: {number: $tls}}, weight: 70}
"""
    + SUBSETS,
    ENTRY,
    RULE,
    r".*(sniHosts|port|hosts|destination\.host)",
)
async def tls_weights_by_counting(rig: Rig) -> None:
    found = Counter([await _over_tls(rig, "a.example") for _ in range(120)])
    assert 20 <= found["web-1"] <= 52  # 36; without the one subset 64, without the other 12
    assert set(found) == {"web-1", "web-2", "web-3"}


TLS_MATCHES = {
    "port": ("port: $auto", "port: $http"),
    "source_labels": ("sourceLabels: {app: client}", "sourceLabels: {app: other}"),
    "source_namespace": ("sourceNamespace: default", "sourceNamespace: other"),
    "gateways": ("gateways: [mesh]", "gateways: [gw]"),
}


def _over_tls_selecting(name: str, here: str, elsewhere: str) -> None:
    async def check(rig: Rig) -> None:
        assert await _over_tls(rig, "a.example") == "web-1"

    check.__name__ = f"tls_match_{name}"
    CASES(
        OUTSIDE.replace("$ip1", "$ip2")
        + f"""
---
kind: VirtualService
spec:
  hosts: [a.example]
  gateways: [mesh, gw]
  tls:
  - match: [{{sniHosts: [a.example], {elsewhere}}}]
    route: [{{destination: {{host: a.example, port: {{number: $auto}}}}}}]
  - match: [{{sniHosts: [a.example], {here}}}]
    route: [{{destination: {{host: web, subset: v1, port: {{number: $tls}}}}}}]
"""
        + SUBSETS,
        ENTRY,
        RULE,
        r".*spec\.gateways",
        r".*(route.*|sniHosts|hosts)",
    )(check)


for _name, _both in TLS_MATCHES.items():
    _over_tls_selecting(_name, *_both)


@CASES(
    OUTSIDE.replace("$ip1", "$ip2")
    + """
---
kind: VirtualService
spec:
  hosts: [a.example]
  tls:
  - match: [{sniHosts: [a.example], destinationSubnets: [10.0.0.0/8]}]
    route: [{destination: {host: web, subset: v1, port: {number: $tls}}}]
"""
    + SUBSETS,
    ENTRY,
    RULE,
    r".*(route.*|sniHosts|hosts)",
)
async def tls_to_another_subnet_is_another_rules(rig: Rig) -> None:
    assert await _over_tls(rig, "a.example") == "web-2"


# --- ServiceEntry


def entry(text: str, ports: str = "{number: $http, name: http, protocol: HTTP, targetPort: $app}") -> str:
    """An entry for out.example."""
    return f"kind: ServiceEntry\nspec:\n  hosts: [out.example]\n  ports: [{ports}]\n  {text}\n"


STRICT = """
---
kind: MeshConfig
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
"""
MESH = r"MeshConfig.*"


@CASES(entry("resolution: STATIC\n  endpoints: [{address: $ip4}]") + STRICT, MESH, r".*ports\[\]\.(name|protocol)")
async def a_host_outside(rig: Rig) -> None:
    assert (await rig.ask(host="out.example")).body == "shop-1"


@CASES(
    entry("resolution: STATIC\n  endpoints: [{address: $ip4, ports: {http: $app2}, weight: 3}, {address: $ip1}]"),
    r".*(hosts|resolution|ports\[\]\.(number|protocol|targetPort)|address)",
)
async def endpoints_have_ports_and_weights(rig: Rig) -> None:
    found = Counter(await rig.names(80, host="out.example"))
    assert set(found) == {"shop-1", "web-1"}
    assert {(one.name, one.port) for one in rig.servers.seen} == {("shop-1", 18_081), ("web-1", 18_080)}
    assert 48 <= found["shop-1"] <= 72


@CASES(
    entry("resolution: STATIC\n  endpoints: [{address: $ip4, labels: {v: a}}, {address: $ip1, labels: {v: b}}]")
    + """
---
kind: DestinationRule
spec: {host: out.example, subsets: [{name: b, labels: {v: b}}]}
---
kind: VirtualService
spec: {hosts: [out.example], http: [{route: [{destination: {host: out.example, subset: b}}]}]}
""",
    RULE,
    r"VirtualService.*",
    r".*(hosts|resolution|ports\[\]\..*|address)",
)
async def endpoints_have_labels(rig: Rig) -> None:
    assert set(await rig.names(6, host="out.example")) == {"web-1"}


@CASES(
    entry("resolution: STATIC\n  endpoints: [{address: $ip1, locality: r9/z9}, {address: $ip4, locality: r1/z1/s1}]")
    + """
---
kind: DestinationRule
spec: {host: out.example, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}
""",
    RULE,
    r".*(hosts|resolution|ports\[\]\..*|address)",
)
async def endpoints_have_a_locality(rig: Rig) -> None:
    assert set(await rig.names(8, host="out.example")) == {"shop-1"}


@CASES(
    entry("resolution: STATIC\n  exportTo: [other]\n  endpoints: [{address: $ip4}]") + STRICT,
    MESH,
    r".*(hosts|resolution|ports\[\]\..*|address)",
)
async def an_entry_for_another_namespace(rig: Rig) -> None:
    assert (await rig.ask(host="out.example")).status == 502


@CASES(
    entry(
        "resolution: DNS\n  endpoints: [{address: localhost}]",
        "{number: $http, name: http, protocol: HTTP, targetPort: $local}",
    )
    + STRICT,
    MESH,
    r".*ports\[\]\.(name|protocol)",
)
async def endpoints_by_name(rig: Rig) -> None:
    assert (await rig.ask(host="out.example")).body == "local"


@CASES(
    entry(
        "resolution: DNS_ROUND_ROBIN\n  endpoints: [{address: localhost}]",
        "{number: $http, name: http, protocol: HTTP, targetPort: $local}",
    )
    + STRICT,
    r".*",
)
async def one_address_at_a_time_by_name(rig: Rig) -> None:
    await endpoints_by_name(rig)


@CASES(
    entry("location: MESH_INTERNAL\n  resolution: STATIC\n  workloadSelector: {labels: {app: shop}}") + STRICT,
    MESH,
    r".*(ports\[\]\.(name|protocol)|location)",
)
async def endpoints_are_the_pods_that_are_selected(rig: Rig) -> None:
    assert set(await rig.names(5, host="out.example")) == {"shop-1"}


@CASES(
    """
kind: ServiceEntry
spec:
  hosts: [secure.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: $mtls, name: http, protocol: HTTP, targetPort: $meshapp}]
  subjectAltNames: ["spiffe://cluster.local/ns/default/sa/somebody"]
  endpoints: [{address: $ip4, labels: {security.istio.io/tlsMode: istio}}]
""",
    r".*(hosts|resolution|ports\[\]\..*|address|labels|location)",
)
async def only_these_identities_are_trusted(rig: Rig) -> None:
    assert (await rig.ask(port="mtls", host="secure.example")).status == 503
    assert rig.servers.seen == []


@CASES(
    """
kind: ServiceEntry
spec:
  hosts: [secure.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: $mtls, name: http, protocol: HTTP, targetPort: $meshapp}]
  endpoints: [{address: $ip4, serviceAccount: somebody, labels: {security.istio.io/tlsMode: istio}}]
""",
    r".*(hosts|resolution|ports\[\]\..*|address)",
    r".*labels|.*location",
)
async def endpoints_have_an_identity(rig: Rig) -> None:
    assert (await rig.ask(port="mtls", host="secure.example")).status == 503
    assert rig.servers.seen == []

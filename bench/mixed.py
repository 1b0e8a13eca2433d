"""What the mixed mesh has beside Services, pods and routes: what makes configurations unlike each other.

Fifty namespaces on five nodes in four zones of two regions, so that endpoints come in five orders; every fifth workload
has a Sidecar of its own, no two of which are equal; policies choose workloads by labels; every DestinationRule has
failover between the regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench import objects
from bench.objects import Document

NAMESPACES: Final = 50
_ZONES: Final = (("west", "west-1"), ("west", "west-2"), ("east", "east-1"), ("east", "east-2"), ("west", "west-1"))
"""Region and zone of each node."""
_NETWORKING: Final = "networking.istio.io/v1"
_SECURITY: Final = "security.istio.io/v1"


def documents(services: int) -> Iterator[Document]:
    """All of it, for so many Services."""
    for number, (region, zone) in enumerate(_ZONES):
        found = objects.made("v1", "Node", f"node-{number}", "")
        found["metadata"]["labels"] = {
            "topology.kubernetes.io/region": region,
            "topology.kubernetes.io/zone": zone,
            "kubernetes.io/hostname": f"node-{number}",
        }
        yield found
    for i in range(services):
        if has_sidecar(i):
            yield sidecar(i)
        if i % 4 == 0:
            yield authorization(i)
        if i % 10 == 1:
            yield mutual_tls(i)
        if i % 20 == 2:
            yield telemetry(i)
        if i % 50 == 3:
            yield envoy_filter(i)


def destination_rule(i: int) -> Document:
    """As in other worlds, with failover between the regions."""
    found = objects.destination_rule(i, NAMESPACES)
    failover = [{"from": "west", "to": "east"}, {"from": "east", "to": "west"}]
    found["spec"]["trafficPolicy"]["loadBalancer"] = {"localityLbSetting": {"enabled": True, "failover": failover}}
    return found


def has_sidecar(i: int) -> bool:
    """Whether the i-th Service's workload has a Sidecar: every fifth, in each namespace."""
    return i % 5 == i // NAMESPACES % 5


def sees(client: int, i: int, *, new: bool = False) -> bool:
    """Whether proxies of one Service's pods know the i-th Service; one that is ``new`` nobody names."""
    near = {objects.ns(client, NAMESPACES), objects.ns(client + 1, NAMESPACES)}
    return not has_sidecar(client) or objects.ns(i, NAMESPACES) in near or (not new and i in _others(client))


def _others(i: int) -> range:
    """Services of other namespaces that the i-th one's Sidecar names."""
    return range(i + 7, i + 42, 7)


def sidecar(i: int) -> Document:
    """Its own namespace, another one, and five Services of others: of no two workloads the same."""
    others = [f"{objects.ns(n, NAMESPACES)}/{objects.host(n, NAMESPACES)}" for n in _others(i)]
    hosts = ["./*", f"{objects.ns(i + 1, NAMESPACES)}/*", *others]
    spec = {"workloadSelector": {"labels": _app(i)}, "egress": [{"hosts": hosts}]}
    return objects.made(_NETWORKING, "Sidecar", f"sidecar-{i}", objects.ns(i, NAMESPACES), spec=spec)


def authorization(i: int) -> Document:
    """An AuthorizationPolicy of one workload."""
    principals = [f"cluster.local/ns/{objects.ns(n, NAMESPACES)}/sa/{objects.account(n)}" for n in (i + 1, i + 2)]
    rules = [
        {"from": [{"source": {"principals": principals}}], "to": [{"operation": {"paths": [f"/api/{i}/*"]}}]},
        {"from": [{"source": {"namespaces": [objects.ns(i, NAMESPACES)]}}]},
    ]
    spec = {"selector": {"matchLabels": _app(i)}, "action": "ALLOW", "rules": rules}
    return objects.made(_SECURITY, "AuthorizationPolicy", f"allow-{i}", objects.ns(i, NAMESPACES), spec=spec)


def mutual_tls(i: int) -> Document:
    """A PeerAuthentication of one workload."""
    ports = {"8080": {"mode": "PERMISSIVE"}}
    spec = {"selector": {"matchLabels": _app(i)}, "mtls": {"mode": "STRICT"}, "portLevelMtls": ports}
    return objects.made(_SECURITY, "PeerAuthentication", f"peers-{i}", objects.ns(i, NAMESPACES), spec=spec)


def telemetry(i: int) -> Document:
    """A Telemetry of one workload."""
    override = {"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": {"tier": {"value": f"'{i}'"}}}
    metrics = [{"providers": [{"name": "prometheus"}], "overrides": [override]}]
    spec = {"selector": {"matchLabels": _app(i)}, "metrics": metrics}
    return objects.made("telemetry.istio.io/v1", "Telemetry", f"metrics-{i}", objects.ns(i, NAMESPACES), spec=spec)


def envoy_filter(i: int) -> Document:
    """An EnvoyFilter of one workload: a header that says which."""
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    patch = {
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": "SIDECAR_INBOUND",
            "listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}},
        },
        "patch": {
            "operation": "MERGE",
            "value": {"typed_config": {"@type": manager, "server_name": f"app-{i}"}},
        },
    }
    spec = {"workloadSelector": {"labels": _app(i)}, "configPatches": [patch]}
    version = "networking.istio.io/v1alpha3"
    return objects.made(version, "EnvoyFilter", f"server-{i}", objects.ns(i, NAMESPACES), spec=spec)


def _app(i: int) -> dict[str, str]:
    return {"app": f"app-{i}"}

"""What makes two proxies alike: the key that their outbound scope is kept under. What is in it is outbound.py's."""

from __future__ import annotations

from dataclasses import replace

from istiod.config.proxy import Proxy
from istiod.mesh import allocation, envoy_release, failover, gateways, http_proxy, inbound, places, reports
from istiod.mesh.envoy_filters import EnvoyFilterIndex
from istiod.mesh.gateway_servers import GatewayIndex
from istiod.mesh.inbound import Place
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.scope import ScopeKey
from istiod.mesh.virtual_services import VirtualServiceIndex
from istiod.mesh.workloads import PodWorkload
from wire import names
from wire.node import NodeType


def placed(
    inputs: tuple[Model, VirtualServiceIndex, GatewayIndex, EnvoyFilterIndex],
    proxy: Proxy,
    pod: PodWorkload | None,
    recall: Recall,
) -> tuple[Place, ScopeKey]:
    """Where a proxy stands and the key of its scope (see ``of``); remembered, as most changes move neither."""
    model, routes, servers, filters = inputs
    node = proxy.node
    looked = (model.registry, model.declared, model.policies, model.settings)

    def made() -> tuple[Place, ScopeKey]:
        place = reports.placed(model, node, pod, recall)
        key = of(model, routes, servers, proxy, pod, place)
        if recall.of("places in clusters", looked, lambda: failover.in_clusters(model)):
            key = replace(key, locality=places.locality(node, pod))
        if node.type is NodeType.SIDECAR:  # it has a cluster for each host that it sees
            return place, key
        patches = filters.choose(node, node.namespace, place.labels, recall)
        return place, replace(key, patched=patches.clusters) if patches is not None else key

    # of VirtualServices no more counts than whose labels they look at
    who, patching = (node.namespace, node.name), filters if node.type is not NodeType.SIDECAR else None
    return recall.of_each(("placed", routes.selectors), who, (proxy, pod, model, servers, patching), made)


def of(
    model: Model,
    routes: VirtualServiceIndex,
    servers: GatewayIndex,
    proxy: Proxy,
    pod: PodWorkload | None,
    place: Place,
) -> ScopeKey:
    """The key of a proxy's outbound scope.

    Args:
        model: the mesh.
        routes: VirtualServices, of which some may look at the proxy's labels.
        servers: Gateways, of which some may select the proxy.
        proxy: who asks.
        pod: its pod; None where the mesh knows none.
        place: where it stands, with the labels that count.
    """
    node, labels = proxy.node, dict(place.labels)
    external = node.metadata.get(names.METADATA_CREDENTIAL) == "true"
    selecting = model.policies.matched(node.namespace, labels)
    matched = routes.matched(labels)
    matched = tuple(sorted({*matched, *selecting})) if selecting else matched
    if node.type is NodeType.SIDECAR:
        chosen = model.sidecars.choose(node.namespace, place.labels)
        sidecar = chosen.key if chosen else None
        return ScopeKey(
            type=node.type,
            namespace=node.namespace,
            matched=matched,
            sidecar=sidecar,
            families=place.families,
            captured=place.captured,
            http_proxy=http_proxy.port(node, model.settings.http_proxy_port),
            own=place.own,
            allocated=allocation.wanted(node, always=model.settings.features.allocate_addresses),
            names=allocation.captures(node),
            credentials=bool(selecting) and _trusted(model, proxy, pod),
            external_credentials=bool(selecting) and external,
            envoy=envoy_release.of(node),
        )
    found = tuple(inbound.targets(model, place))
    behind, served = servers.behind(found)
    home = node.namespace if model.settings.features.scope_gateways else ""
    ports: dict[int, int] = {}
    for one, port, target in found:
        if not gateways.keeps_ports(one):
            ports.setdefault(port.number, target)  # of several Services the oldest counts
    return ScopeKey(
        type=node.type,
        namespace=node.namespace,
        matched=(*matched, *servers.matched(labels, home), *behind),
        served=served,
        ports=tuple(sorted(ports.items())),
        families=place.families,
        own=place.own,
        credentials=_trusted(model, proxy, pod),
        external_credentials=external,
        authorized_by=tuple(one.key for one in model.authorizations.of_workload(node.namespace, place.labels)),
        tokens=model.tokens.matched(node.namespace, place.labels),
        limited_by=model.rate_limits.matched(node.namespace, place.labels),
        envoy=envoy_release.of(node),
    )


def _trusted(model: Model, proxy: Proxy, pod: PodWorkload | None) -> bool:
    """Whether a proxy may have Secrets of its namespace (row E7).

    Its pod exists, is who the transport proved, and runs as an account that may read them itself (hostile-input SEC63).
    Who comes without proof sees the chains and gets no Secret: the ADS server answers no such request.
    """
    identity = proxy.peer.identity
    if identity is None:
        return True
    if pod is None or pod.identity != str(identity):
        return False
    readers = model.secret_readers
    return readers is None or (identity.namespace, identity.service_account) in readers

"""Endpoints of every service: from EndpointSlices, from ServiceEntries and from workloads selected (D12, H4, H5).

Leaves are by host and namespace; one is built again only when a slice or pod of it changed, and stays the same object
while its content does. Which endpoints a proxy is sent (subset, locality) is decided when they are compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from crds import discovery
from istiod.mesh import backends, hosts, selected, workloads
from istiod.mesh.backends import Backends, PodName
from istiod.mesh.endpoint import Endpoint, EndpointLeaf, EndpointTable, Health
from istiod.mesh.model import EMPTY_SUMMARY, Summary
from istiod.mesh.peer_authentication import PeerAuthenticationIndex
from istiod.mesh.policy import MutualTls
from istiod.mesh.registry import Registry
from istiod.mesh.service import Resolution, Service
from wire import names

HostName = tuple[str, str]
"""Host and namespace of a service."""

_RANK = {Health.HEALTHY: 0, Health.DRAINING: 1, Health.UNHEALTHY: 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What endpoints are made from. ``peers`` is None where no PeerAuthentication switches mTLS off.

    ``passing`` are the hosts whose clients keep the original destination (PolicyIndex).
    """

    registry: Registry
    declared: EndpointTable
    backends: Backends
    peers: PeerAuthenticationIndex | None
    passing: frozenset[str]
    select_entries: bool = True
    """Whether Services of Kubernetes select WorkloadEntries."""


def update(before: EndpointTable, inputs: Inputs, touched: Iterable[HostName]) -> EndpointTable:
    """The table with the touched hosts built again; the same table when nothing of it differs."""
    leaves: dict[HostName, EndpointLeaf] | None = None
    for name in touched:
        old = before.leaves.get(name)
        service = inputs.registry.get(*name)
        new = _leaf(service, inputs) if service else None
        if _equal(old, new):
            continue
        leaves = dict(before.leaves) if leaves is None else leaves
        if new is None:
            del leaves[name]
        else:
            leaves[name] = new
    return before if leaves is None else EndpointTable(leaves=leaves)


def summarize(
    before: Mapping[HostName, Summary], inputs: Inputs, table: EndpointTable, touched: Iterable[HostName]
) -> Mapping[HostName, Summary]:
    """The summaries of the table, with those of touched hosts made again; the same mapping when none differs."""
    after: dict[HostName, Summary] | None = None
    for name in touched:
        service = inputs.registry.get(*name)
        leaf = table.leaves.get(name)
        new = _summary(service, leaf, inputs.passing) if service and leaf else EMPTY_SUMMARY
        if before.get(name, EMPTY_SUMMARY) == new:
            continue
        after = dict(before) if after is None else after
        after[name] = new
    return before if after is None else after


def named(declared: EndpointTable, before: EndpointTable, table: EndpointTable, registry: Registry) -> EndpointTable:
    """The endpoints that stand inside of DNS clusters: declared ones, and the workloads that DNS hosts select.

    Args:
        declared: what ServiceEntries name themselves.
        before: the answer for the model before, which stays where nothing of it differs.
        table: all endpoints.
        registry: all services.
    """
    if not registry.picking:
        return declared
    leaves = dict(declared.leaves)
    for name in ((service.host, service.namespace) for service in registry.picking):
        leaf = table.leaves.get(name)
        if leaf is not None:
            leaves[name] = leaf
    same = leaves.keys() == before.leaves.keys() and all(before.leaves[name] is leaf for name, leaf in leaves.items())
    return before if same else EndpointTable(leaves=leaves)


def _summary(service: Service, leaf: EndpointLeaf, passing: Iterable[str]) -> Summary:
    everyone = [endpoint for endpoints in leaf.ports.values() for endpoint in endpoints]
    by_address = service.headless or (service.kubernetes and not service.selector)
    passes = service.resolution is Resolution.PASSTHROUGH or any(hosts.matches(p, service.host) for p in passing)
    return Summary(
        identities=leaf.identities,
        addresses=tuple(
            (port, tuple(dict.fromkeys(one for e in leaf.ports[port] for one in (e.address, *e.additional) if one)))
            for port in sorted(leaf.ports)
        )
        if by_address
        else (),
        tls=passes and bool(everyone) and all(e.tls for e in everyone),
    )


def _equal(one: EndpointLeaf | None, other: EndpointLeaf | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.ports == other.ports and one.identities == other.identities


def _leaf(service: Service, inputs: Inputs) -> EndpointLeaf | None:
    """The leaf of a service; None where nothing at all stands behind it."""
    if service.kubernetes:
        ports = _from_slices(service, inputs.backends)
        more = selected.of_service(service, inputs.backends) if inputs.select_entries else ()
    else:
        own = inputs.declared.leaves.get((service.host, service.namespace))
        ports = {port: list(endpoints) for port, endpoints in (own.ports if own else {}).items()}
        more = selected.of_entry(service, inputs.backends)
    for port, endpoint in more:
        ports.setdefault(port, []).append(endpoint)
    if not ports:
        return None
    peers = inputs.peers
    if peers is not None:
        ports = {port: [_under(peers, service, e) for e in endpoints] for port, endpoints in ports.items()}
    identities = {e.identity for endpoints in ports.values() for e in endpoints if e.identity}
    settled = {port: _settled(endpoints) for port, endpoints in sorted(ports.items())}
    return EndpointLeaf(
        ports={port: endpoints for port, endpoints in settled.items() if endpoints},
        identities=tuple(sorted(identities)),
    )


def _under(peers: PeerAuthenticationIndex, service: Service, endpoint: Endpoint) -> Endpoint:
    """The endpoint without mesh mTLS where its workload switches it off for the port."""
    mode = peers.of_port(service.namespace, endpoint.labels, endpoint.port)
    return replace(endpoint, tls=endpoint.tls and mode is not MutualTls.DISABLE)


def _from_slices(service: Service, found: Backends) -> dict[int, list[Endpoint]]:
    """The endpoints of the Service's first IP version, and those pods of the other that are not among them.

    A pod that serves both is one endpoint with an additional address: it must not count twice (as on Istio). What is no
    pod cannot be recognized in the other version, so there one version counts.
    """
    first, second = _by_family(service, found.slices.get((service.namespace, service.name), ()))
    others = {(pod, number, one.port): one for pod, number, one in _placed(service, second, found) if pod}
    ports: dict[int, list[Endpoint]] = {}
    joined: set[tuple[PodName, int, int]] = set()
    for pod, number, one in _placed(service, first, found):
        other = others.get((pod, number, one.port)) if pod else None
        if pod and other:
            joined.add((pod, number, one.port))
        ports.setdefault(number, []).append(replace(one, additional=(other.address,)) if other else one)
    for (pod, number, port), one in others.items():
        if (pod, number, port) not in joined:
            ports.setdefault(number, []).append(one)
    return ports


def _placed(
    service: Service, slices: Iterable[discovery.EndpointSlice], found: Backends
) -> Iterator[tuple[PodName | None, int, Endpoint]]:
    """The endpoints of slices, each with the pod that it names and the service port that it serves."""
    for item in slices:
        served = _served(service, item)
        for backend in item.endpoints:
            if (base := _backend(item, backend, found)) is None:
                continue
            for number, port in served:
                own = backend.hostname if service.headless else ""
                yield backends.target(item, backend), number, replace(base, port=port, hostname=own)


def _served(service: Service, item: discovery.EndpointSlice) -> list[tuple[int, int]]:
    """The service's ports, each with its number at the endpoints, joined by name.

    Service and slices change one after the other: where a port is renamed (so its protocol is changed), Kubernetes'
    own slices lag behind or come first, and for a moment no name fits. What neither side can place otherwise is joined
    by the endpoints' number then, else the port would lose all endpoints under load (fault FT27).
    """
    numbers = {port.name: port.number for port in service.ports}
    found = [(numbers[p.name], p.port) for p in item.ports if p.port is not None and p.name in numbers]
    if item.metadata.labels.get(names.LABEL_SLICE_MANAGER) != names.SLICE_CONTROLLER:
        return found
    known = {p.name for p in item.ports}
    renamed = {port.target or port.number: port.number for port in service.ports if port.name not in known}
    return found + [
        (renamed[p.port], p.port)
        for p in item.ports
        if p.port in renamed and p.name not in numbers and p.protocol != "UDP"
    ]


_Slices = tuple[discovery.EndpointSlice, ...]


def _by_family(service: Service, slices: Iterable[discovery.EndpointSlice]) -> tuple[_Slices, _Slices]:
    """The slices of the Service's own first IP version (IPv4 where it has no address), and those of the other."""
    every = tuple(slices)
    kinds = ("IPv6", "IPv4") if ":" in "".join(service.addresses[:1]) else ("IPv4", "IPv6")
    first, second = (tuple(one for one in every if one.address_type == kind) for kind in kinds)
    return (first, second) if first else (second, ())


def _backend(item: discovery.EndpointSlice, backend: discovery.Endpoint, found: Backends) -> Endpoint | None:
    """The endpoint of a backend, port 0; None when it has no address or its pod is not known yet (labels decide)."""
    if not backend.addresses:
        return None
    health = _health(backend.conditions)
    address, named = backend.addresses[0], backends.target(item, backend)
    pod = found.pods.get(named) if named else found.at(address)
    if pod is not None:
        return selected.of_pod(pod, address, health)
    if named:
        return None
    locality = found.localities.get(backend.node_name, workloads.NOWHERE)
    return Endpoint(
        address=address,
        port=0,
        labels=workloads.placed({}, locality, found.networks.of(address), backend.node_name),
        tls=False,
        health=health,
        weight=1,
        locality=locality,
        network=found.networks.of(address),
        identity="",
        node=backend.node_name,
        workload=workloads.workload("", item.metadata.namespace, {}),
    )


def _health(conditions: discovery.Conditions) -> Health:
    if conditions.ready is None or conditions.ready:
        return Health.HEALTHY
    return Health.DRAINING if conditions.serving and conditions.terminating else Health.UNHEALTHY


def _name(endpoint: Endpoint) -> str:
    """What tells endpoints apart that have no address, since they are behind a gateway."""
    return "" if endpoint.address else endpoint.workload.name


def _settled(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Each address and port once, the healthiest word on it, in a fixed order; nobody who is not ready.

    Where a Service publishes unready addresses, Kubernetes itself calls them ready in the slices.

    Where nobody is healthy those that drain serve: better than nobody (Kubernetes: ProxyTerminatingEndpoints).
    """
    best: dict[tuple[str, int, str], Endpoint] = {}
    for endpoint in sorted(endpoints, key=lambda e: (_RANK[e.health], e.address, e.port)):
        if endpoint.health is not Health.UNHEALTHY:
            best.setdefault((endpoint.address, endpoint.port, _name(endpoint)), endpoint)
    ordered = tuple(best[place] for place in sorted(best))
    if any(e.health is Health.HEALTHY for e in ordered):
        return ordered
    return tuple(replace(e, health=Health.HEALTHY) if e.health is Health.DRAINING else e for e in ordered)

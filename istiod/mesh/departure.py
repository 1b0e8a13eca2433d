"""A pod that is about to end: under which addresses, and as part of which hosts, others may know it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crds.discovery import EndpointSlice
from istiod.mesh.context import MeshContext
from wire import names

_ISTIOD = "istiod"
_SECURE = "https-dns"
"""The Service's port of ADS under TLS, as in Istio's chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Who leaves: the pod's SPIFFE id, its addresses, and the hosts that it answers for."""

    identity: str
    addresses: tuple[str, ...]
    hosts: frozenset[str]


def of(context: MeshContext, namespace: str, name: str) -> Departure | None:
    """The departure of a pod; None where the mesh knows none of that name.

    The hosts are those whose slices name the pod, even as terminating, and those that select it: what has been taken
    out of the endpoints already may still be on its way to the proxies.
    """
    pod = context.backends.pods.get((namespace, name))
    if pod is None:
        return None
    domain = context.model.settings.dns_domain
    users = set(context.backends.users.get((namespace, name), ()))
    for address in pod.addresses:
        users.update(context.backends.users.get(address, ()))
    hosts = {f"{service}.{space}.svc.{domain}" for space, service in users}
    selecting = context.sources.registry.choosers(namespace, pod.labels)
    hosts.update(service.host for service in selecting if service.selector)
    return Departure(identity=pod.identity, addresses=pod.addresses, hosts=frozenset(hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Another control plane: HOST:PORT, and the SPIFFE id of its pod."""

    address: str
    identity: str


def replicas(context: MeshContext, namespace: str, own: str) -> Iterator[Replica]:
    """The other control planes of a namespace, of all revisions, in order: each has proxies that ask no other.

    They are the endpoints of the Services ``istiod`` and ``istiod-...`` that are pods; one that is not ready, or is
    about to end, still has proxies. ``own`` is the name of the pod that asks.
    """
    found = {address: one for each in _services(context, namespace) for address, one in each.items()}
    yield from (found[address][1] for address in sorted(found) if found[address][0] != own)


def peers(context: MeshContext, namespace: str, own: str) -> Iterator[Replica]:
    """Those of them to which a Service leads that leads to ``own`` as well: its proxies may go there."""
    ours = (each for each in _services(context, namespace) if any(name == own for name, _ in each.values()))
    found = {address: one for each in ours for address, one in each.items()}
    yield from (found[address][1] for address in sorted(found) if found[address][0] != own)


def _services(context: MeshContext, namespace: str) -> Iterator[dict[str, tuple[str, Replica]]]:
    """For each Service of control planes: the name of its pod, and the replica, by address."""
    for (space, service), parts in context.backends.slices.items():
        if space == namespace and (service == _ISTIOD or service.startswith(f"{_ISTIOD}-")):
            yield {address: found for part in parts for address, found in _pods(context, namespace, part)}


def _pods(context: MeshContext, namespace: str, part: EndpointSlice) -> Iterator[tuple[str, tuple[str, Replica]]]:
    port = next((each.port for each in part.ports if each.name == _SECURE), 0) or names.CA_PORT
    for address in (address for each in part.endpoints for address in each.addresses):
        pod = context.backends.at(address)
        if pod is not None and pod.namespace == namespace:
            yield address, (pod.name, Replica(address=_joined(address, port), identity=pod.identity))


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

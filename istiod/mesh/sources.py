"""Services and ServiceEntries of a snapshot -> the registry and the endpoints that entries name themselves.

Each object is converted once and remembered; equal results stay the same objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from crds import core, service_entry, unhonoured
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import NETWORKING, ConfigKey
from crds.meta import Object
from istiod.config.store import ConfigSnapshot, Kind
from istiod.mesh import allocation, networks, protocol, registry, service_entries, services
from istiod.mesh.endpoint import Endpoint, EndpointLeaf, EndpointTable
from istiod.mesh.registry import Registry
from istiod.mesh.service import Service
from istiod.mesh.settings import MeshSettings

SERVICES: Kind = ("", "Service")
ENTRIES: Kind = (NETWORKING, "ServiceEntry")

_Ports = Mapping[int, tuple[Endpoint, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """An object, what it became and what it says in vain; ``declared`` is by host."""

    item: Object
    services: tuple[Service, ...]
    declared: tuple[tuple[str, _Ports], ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sources:
    """The registry, the declared endpoints, and what they were made from."""

    registry: Registry = field(default_factory=Registry)
    declared: EndpointTable = field(default_factory=EndpointTable)
    diagnostics: tuple[Diagnostic, ...] = ()
    read: Mapping[ConfigKey, Converted] = field(default_factory=dict)
    settings: MeshSettings | None = None


def build(snapshot: ConfigSnapshot, settings: MeshSettings, previous: Sources) -> Sources:
    """The sources of a snapshot. Parts that are equal to ``previous``'s are the same objects."""
    known = previous.read if previous.settings is settings else {}
    read: dict[ConfigKey, Converted] = {}
    for key, item in (*snapshot.of(*SERVICES).items(), *snapshot.of(*ENTRIES).items()):
        before = known.get(key)
        read[key] = before if before is not None and before.item is item else _convert(item, settings)
    found, findings = registry.build(_addressed(read, settings), previous.registry)
    if len(found.services) == len(previous.registry.services) and all(
        new is old for new, old in zip(found.services, previous.registry.services, strict=True)
    ):
        found = previous.registry
    return Sources(
        registry=found,
        declared=_declared(read, found, previous.declared),
        diagnostics=(*findings, *(d for one in read.values() for d in one.diagnostics)),
        read=read,
        settings=settings,
    )


def _addressed(read: Mapping[ConfigKey, Converted], settings: MeshSettings) -> Iterator[Service]:
    """All services; those of ServiceEntries with the addresses that the mesh gives them."""
    by_status = settings.features.allocate_addresses
    asking: list[Service] = []
    for one in read.values():
        entry = one.item
        if not isinstance(entry, service_entry.ServiceEntry):
            yield from one.services
            continue
        for service in one.services:
            if allocation.wants(entry, service.host, by_status=by_status):
                asking.append(service)
            else:
                yield replace(service, allocated=()) if service.allocated else service
    asking.sort(key=registry.age)
    order = [(service.host, service.namespace) for service in asking]
    held = {(s.host, s.namespace): s.allocated for s in reversed(asking) if s.allocated} if by_status else {}
    given = allocation.allocate(dict.fromkeys(order) if by_status else order, held)
    for service, name in zip(asking, order, strict=True):
        yield replace(service, allocated=given.get(name, ()))


def given(found: Sources, key: ConfigKey) -> tuple[tuple[str, str], ...] | None:
    """What the status of an object should say of addresses: hosts and theirs, () where the mesh gives none.

    None is said of a ServiceEntry that these sources do not hold.
    """
    if (key.group, key.kind) != ENTRIES or found.settings is None or not found.settings.features.allocate_addresses:
        return ()
    known = found.read.get(key)
    if known is None:
        return None
    services = (found.registry.get(one.host, one.namespace) for one in known.services)
    asking = (one for one in services if one is not None and one.origin.key == key)
    return tuple((one.host, address) for one in asking for address in one.allocated)


def _convert(item: Object, settings: MeshSettings) -> Converted:
    if isinstance(item, service_entry.ServiceEntry):
        made = service_entries.services(item, settings)
        declared = tuple((s.host, service_entries.endpoints(item, s, settings)) for s in made)
        return Converted(item=item, services=made, declared=declared, diagnostics=tuple(_of_entry(item)))
    service = cast("core.Service", item)
    made = (services.service(service, settings),)
    return Converted(item=item, services=made, diagnostics=tuple(_of_service(service)))


def _declared(read: Mapping[ConfigKey, Converted], known: Registry, previous: EndpointTable) -> EndpointTable:
    """Endpoints by host and namespace: those of all entries that share the host (registry.agree), in order of names."""
    ports: dict[tuple[str, str], dict[int, tuple[Endpoint, ...]]] = {}
    for key in sorted(read):
        for service, (host, endpoints) in zip(read[key].services, read[key].declared, strict=False):
            speaker = known.get(host, key.namespace)
            if speaker is None or not registry.agree(speaker, service):
                continue
            own = ports.setdefault((host, key.namespace), {})
            for number, found in endpoints.items():
                own[number] = (*own.get(number, ()), *found)
    leaves: dict[tuple[str, str], EndpointLeaf] = {}
    for name, own in ports.items():
        old = previous.leaves.get(name)
        leaves[name] = old if old is not None and old.ports == own else EndpointLeaf(ports=own)
    same = leaves.keys() == previous.leaves.keys() and all(previous.leaves[n] is leaf for n, leaf in leaves.items())
    return previous if same else EndpointTable(leaves=leaves)


def _of_service(item: core.Service) -> Iterator[Diagnostic]:
    for path, reason in services.without_effect(item):
        yield warning(Code.NOT_SUPPORTED, item.key, path, reason)
    yield from networks.findings(item)


def _of_dynamic(item: service_entry.ServiceEntry) -> Iterator[Diagnostic]:
    """What makes no difference where Envoy resolves the host that a client names, and takes the port from its Host."""
    spec = item.spec
    for i, port in enumerate(spec.ports):
        if port.target_port and protocol.parse(port.protocol).is_http:
            message = "HTTP requests to hosts of DYNAMIC_DNS go to the port that they name: by default 80, with TLS 443"
            yield warning(Code.NOT_SUPPORTED, item.key, f"spec.ports[{i}].targetPort", message)
    for name, said in (("endpoints", spec.endpoints), ("workloadSelector", spec.workload_selector)):
        if said:
            message = "has no effect with DYNAMIC_DNS: the host that a client names is resolved"
            yield warning(Code.INEFFECTIVE, item.key, f"spec.{name}", message)


def _of_entry(item: service_entry.ServiceEntry) -> Iterator[Diagnostic]:
    if item.spec.resolution == "DYNAMIC_DNS":
        yield from _of_dynamic(item)
    for i, endpoint in enumerate(item.spec.endpoints if item.spec.resolution.startswith("DNS") else ()):
        if endpoint.network:
            message = "has no effect with DNS, as on Istio: the endpoint is called at its own address"
            yield warning(Code.NOT_SUPPORTED, item.key, f"spec.endpoints[{i}].network", message)
    for path, reason in services.unknown_distribution(item.metadata.annotations):
        yield warning(Code.NOT_SUPPORTED, item.key, path, reason)
    yield from unhonoured.findings(item)

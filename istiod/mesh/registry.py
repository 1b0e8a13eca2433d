"""All services of the mesh, indexed: who may see which host, and which object speaks for it.

Built from Services (services.py) and ServiceEntries (service_entries.py); the conversion is theirs, the choice between
rivals is here. Endpoints are elsewhere (endpoints.py), policies too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from crds.diagnostic import Code, Diagnostic, warning
from crds.key import ConfigKey
from istiod.mesh import creation
from istiod.mesh.service import NAMED, Labels, Service

EVERYWHERE = "*"
_PLACE: Final = operator.itemgetter(0)


def age(service: Service) -> tuple[creation.Age, str, ConfigKey]:
    """Sort key of the fixed order: the oldest first, then by name and namespace."""
    return (creation.age(service.created, service.name, service.namespace), service.host, service.origin.key)


def exported(export_to: frozenset[str], namespace: str) -> bool:
    """Whether something exported to these namespaces (or "*") is visible from ``namespace``."""
    return EVERYWHERE in export_to or namespace in export_to


def audience(export_to: Iterable[str], namespace: str, default: Iterable[str]) -> frozenset[str]:
    """What an object's exportTo means: namespaces or "*"; "." is its own namespace, "~" is nobody.

    ``default`` is the mesh's exportTo for the kind and applies when the object says nothing.
    """
    said = tuple(export_to) or tuple(default)
    names = frozenset(namespace if name == "." else name for name in said) - {"~"}
    return frozenset({EVERYWHERE}) if EVERYWHERE in names else names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registry:
    """Services in one fixed order (created, name, namespace), whatever the order of events was.

    ``by_host`` and ``by_namespace`` hold every service of a host or a namespace, in the same order; (host, namespace)
    is unique.
    """

    services: tuple[Service, ...] = ()
    by_host: Mapping[str, tuple[Service, ...]] = field(default_factory=dict)
    by_namespace: Mapping[str, tuple[Service, ...]] = field(default_factory=dict)
    picking: tuple[Service, ...] = ()
    """Those that select workloads by whose names or addresses Envoy finds them (DNS): few, and asked at each event."""
    choosing: Mapping[tuple[str, tuple[str, str] | None], tuple[tuple[int, Service], ...]] = field(default_factory=dict)
    """By namespace and the first of the labels that they select, None for those without: with their place in order."""
    open: bool = False
    """Every namespace knows every service, and no host is claimed twice."""

    def in_namespace(self, namespace: str) -> tuple[Service, ...]:
        """The services that a namespace defines, in the fixed order."""
        return self.by_namespace.get(namespace, ())

    def choosers(self, namespace: str, labels: Labels) -> tuple[Service, ...]:
        """The services of a namespace that select a workload with these labels, and those that select nobody.

        In the fixed order. Who asks pays for the workload's labels, not for all services.
        """
        found = [one for label in (None, *labels) for one in self.choosing.get((namespace, label), ())]
        return tuple(service for _, service in sorted(found, key=_PLACE) if service.selector <= labels)

    def get(self, host: str, namespace: str) -> Service | None:
        """The service of a host that a namespace defines, or None."""
        return next((s for s in self.by_host.get(host, ()) if s.namespace == namespace), None)

    def visible(self, namespace: str) -> tuple[Service, ...]:
        """The services that proxies of ``namespace`` know, one per host, in the fixed order.

        The same object for all namespaces that know every service.
        """
        if self.open:
            return self.services
        found = tuple(s for s in self.services if self.find(s.host, namespace) is s)
        return self.services if len(found) == len(self.services) else found

    def find(self, host: str, namespace: str) -> Service | None:
        """The service that ``host`` means as seen from ``namespace``.

        Of several, the own namespace's wins, then Kubernetes Services, then the oldest (Istio: DefaultSidecarScope).
        """
        candidates = [s for s in self.by_host.get(host, ()) if exported(s.export_to, namespace)]
        return preferred(candidates, namespace) if candidates else None


def preferred(candidates: Iterable[Service], namespace: str) -> Service:
    """The one of several services of a host that clients of a namespace mean; candidates come in the fixed order."""
    return min(candidates, key=lambda s: (s.namespace != namespace, not s.kubernetes))


def build(services: Iterable[Service], previous: Registry | None = None) -> tuple[Registry, tuple[Diagnostic, ...]]:
    """The registry of these services, with findings. Equal services are the same objects as in ``previous``."""
    chosen: dict[tuple[str, str], Service] = {}
    findings: list[Diagnostic] = []
    for service in sorted(services, key=lambda s: (not s.kubernetes, age(s))):
        name = (service.host, service.namespace)
        if name not in chosen:
            chosen[name] = service
        elif (merged := _merged(chosen[name], service)) is not None:
            chosen[name] = merged
        else:
            message = f"{chosen[name].origin.key} has {service.host} in this namespace; this one has no effect on it"
            findings.append(warning(Code.DUPLICATE_HOST, service.origin.key, "spec.hosts", message))
    ordered = tuple(_known(service, previous) for service in sorted(chosen.values(), key=age))
    by_host: dict[str, list[Service]] = {}
    by_namespace: dict[str, list[Service]] = {}
    for service in ordered:
        by_host.setdefault(service.host, []).append(service)
        by_namespace.setdefault(service.namespace, []).append(service)
    choosing: dict[tuple[str, tuple[str, str] | None], list[tuple[int, Service]]] = {}
    for place, service in enumerate(ordered):
        label = min(service.selector, default=None)
        choosing.setdefault((service.namespace, label), []).append((place, service))
    before = previous or Registry()
    registry = Registry(
        services=ordered,
        by_host={host: tuple(found) for host, found in by_host.items()},
        by_namespace={home: _kept(tuple(found), before.by_namespace.get(home)) for home, found in by_namespace.items()},
        choosing={key: tuple(found) for key, found in choosing.items()},
        picking=tuple(service for service in ordered if service.selector and service.resolution in NAMED),
        open=all(len(found) == 1 and EVERYWHERE in found[0].export_to for found in by_host.values()),
    )
    return registry, tuple(findings)


def _kept(found: tuple[Service, ...], before: tuple[Service, ...] | None) -> tuple[Service, ...]:
    """The tuple before where it holds the same objects."""
    same = before is not None and len(found) == len(before) and all(map(operator.is_, found, before))
    return before if before is not None and same else found


def _merged(older: Service, younger: Service) -> Service | None:
    """Two ServiceEntries share a host in a namespace unless their words on it differ; else None."""
    if not agree(older, younger):
        return None
    new = tuple(port for port in younger.ports if older.port(port.number) is None)
    return replace(older, ports=(*older.ports, *new)) if new else older


def agree(one: Service, other: Service) -> bool:
    """Whether two ServiceEntries say the same of a host but for ports and endpoints, which then count together."""
    if one.kubernetes or other.kubernetes:
        return False
    return (one.resolution, one.mesh_external, one.selector) == (other.resolution, other.mesh_external, other.selector)


def _known(service: Service, previous: Registry | None) -> Service:
    old = previous.get(service.host, service.namespace) if previous else None
    return old if old is not None and old == service else service

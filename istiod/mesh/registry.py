"""All services of the mesh, indexed: who may see which host, and which object speaks for it.

Built from Services (services.py) and ServiceEntries (service_entries.py); the conversion is theirs, the choice between
rivals is here. Endpoints are elsewhere (endpoints.py), policies too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from istiod.mesh.service import Service

EVERYWHERE = "*"
_OLDEST = datetime.min.replace(tzinfo=UTC)


def _age(service: Service) -> tuple[datetime, str, str, str]:
    return (service.created or _OLDEST, service.name, service.namespace, service.host)


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

    ``by_host`` holds every service of a host, in the same order.
    """

    services: tuple[Service, ...] = ()
    by_host: Mapping[str, tuple[Service, ...]] = field(default_factory=dict)

    def visible(self, namespace: str) -> tuple[Service, ...]:
        """The services that proxies of ``namespace`` know, one per host, in the fixed order."""
        return tuple(s for s in self.services if self.find(s.host, namespace) is s)

    def find(self, host: str, namespace: str) -> Service | None:
        """The service that ``host`` means as seen from ``namespace``.

        Of several, the own namespace's wins, then Kubernetes Services, then the oldest (Istio: DefaultSidecarScope).
        """
        candidates = [s for s in self.by_host.get(host, ()) if exported(s.export_to, namespace)]
        return min(candidates, key=lambda s: (s.namespace != namespace, not s.kubernetes), default=None)


def build(services: Iterable[Service]) -> Registry:
    """The registry of these services; (host, namespace) must be unique."""
    ordered = tuple(sorted(services, key=_age))
    by_host: dict[str, list[Service]] = {}
    for service in ordered:
        by_host.setdefault(service.host, []).append(service)
    return Registry(services=ordered, by_host={host: tuple(found) for host, found in by_host.items()})

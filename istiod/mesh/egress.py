"""What sidecars see of the mesh: services and rules, listener by listener (features rows J3, J4, B7).

Without a Sidecar object it is everything exported to their namespace, on one listener that stands for all ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from istiod.mesh import clusters, hosts, registry, sidecars
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.registry import Registry
from istiod.mesh.scope import ScopeKey
from istiod.mesh.service import Protocol, Service
from istiod.mesh.settings import MeshSettings, OutboundMode
from istiod.mesh.sidecars import Egress, Patterns, Sidecar
from istiod.mesh.virtual_services import VirtualService, VirtualServiceIndex

_EVERY_HOST = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One egress listener: the services and rules behind it, and where it listens.

    ``services`` come oldest first, one per host, with the ports that the listener has.
    """

    services: tuple[Service, ...]
    index: VirtualServiceIndex
    listener: Egress

    @property
    def is_proxy(self) -> bool:
        """Every HTTP service is behind its one port or socket: apps name it as their HTTP proxy."""
        port = self.listener.port
        if port is None:
            return False
        return port.protocol is Protocol.HTTP_PROXY or (not port.number and port.protocol.may_be_http)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Everything that sidecars of one key see. ``services`` have clusters: those of all views and where rules lead."""

    views: tuple[View, ...]
    services: tuple[Service, ...]
    settings: MeshSettings


def sight(model: Model, index: VirtualServiceIndex, key: ScopeKey, recall: Recall) -> Sight:
    """What sidecars of a key see."""
    if key.sidecar is None:
        services = visible(model.registry, key.namespace, recall)
        return Sight(
            views=(View(services=services, index=index, listener=Egress(binds=not key.captured)),),
            services=services,
            settings=model.settings,
        )
    said = model.sidecars.by_key[key.sidecar]
    listeners = (replace(one, binds=bool(one.binds) or not key.captured) for one in said.egress)
    views = tuple(_view(model.registry, index, key.namespace, one, recall) for one in listeners)
    found = _Union(recall=recall)
    for view in views:
        for service in view.services:
            found.add(service)
        for service in _led_to(model.registry, view, key.namespace, recall):
            found.add(service)
    if said.egress_proxy and (proxy := model.registry.find(said.egress_proxy.host, key.namespace)):
        found.add(proxy)
    return Sight(
        views=views,
        services=tuple(sorted(found.services.values(), key=registry.age)),
        settings=_settings(model.settings, said, recall),
    )


def visible(known: Registry, namespace: str, recall: Recall) -> tuple[Service, ...]:
    """Registry.visible, remembered: the same object while the registry is the same."""
    return recall.of_many(("visible", namespace), (known,), lambda: known.visible(namespace))


def _settings(settings: MeshSettings, said: Sidecar, recall: Recall) -> MeshSettings:
    """The mesh's settings with the Sidecar's word on unknown hosts."""
    mode, proxy = said.outbound, said.egress_proxy
    if mode is None or (mode is settings.outbound and proxy is None):
        return settings
    if proxy is None or mode is not OutboundMode.ALLOW_ANY:
        return recall.of(("settings", mode), (settings,), lambda: replace(settings, outbound=mode))
    name = clusters.cluster_name(clusters.OUTBOUND, proxy.subset, proxy.host, proxy.port)
    return recall.of(("settings", name), (settings,), lambda: replace(settings, outbound=mode, egress_proxy=name))


def _view(known: Registry, index: VirtualServiceIndex, namespace: str, listener: Egress, recall: Recall) -> View:
    seen, hidden = listener.patterns(namespace)
    everything = seen == _EVERYTHING and not hidden
    services = visible(known, namespace, recall) if everything else _chosen(known, namespace, seen, hidden)
    trimmed = (_with_port(one, listener, recall) for one in services)
    return View(
        services=services if listener.port is None else tuple(one for one in trimmed if one is not None),
        index=index if everything else index.importing(partial(_imported, seen, hidden)),
        listener=listener,
    )


def _chosen(known: Registry, namespace: str, seen: Patterns, hidden: Patterns) -> tuple[Service, ...]:
    """The services that a listener names, one per host (Istio: selectServices)."""
    by_host: dict[str, list[Service]] = {}
    for service in sorted(_named(known, namespace, seen), key=registry.age):
        if not _holds(hidden, service.namespace, partial(hosts.matches, host=service.host)):
            by_host.setdefault(service.host, []).append(service)
    return tuple(sorted((registry.preferred(found, namespace) for found in by_host.values()), key=registry.age))


_EVERYTHING: Patterns = {sidecars.ANY_NAMESPACE: (_EVERY_HOST,)}


def _named(known: Registry, namespace: str, seen: Patterns) -> Iterator[Service]:
    """Services that the patterns hold and that are exported to a namespace; exact names are looked up."""
    found: dict[tuple[str, str], Service] = {}
    for home, patterns in seen.items():
        for pattern in patterns:
            for one in _candidates(known, home, pattern):
                if hosts.matches(pattern, one.host) and registry.exported(one.export_to, namespace):
                    found[one.host, one.namespace] = one
    yield from found.values()


def _candidates(known: Registry, home: str, pattern: str) -> Iterable[Service]:
    anywhere = home == sidecars.ANY_NAMESPACE
    if hosts.is_wildcard(pattern):
        return known.services if anywhere else known.in_namespace(home)
    return (one for one in known.by_host.get(pattern, ()) if anywhere or one.namespace == home)


def _holds(patterns: Patterns, namespace: str, fits: Callable[[str], bool]) -> bool:
    return any(fits(one) for home in (namespace, sidecars.ANY_NAMESPACE) for one in patterns.get(home, ()))


def _imported(seen: Patterns, hidden: Patterns, rules: VirtualService) -> bool:
    """Whether a listener knows a VirtualService: by its namespace, and by a host in common."""
    home = rules.key.namespace
    return any(
        _holds(seen, home, partial(_meet, host)) and not _holds(hidden, home, partial(hosts.matches, host=host))
        for host in rules.hosts
    )


def _meet(host: str, pattern: str) -> bool:
    """Whether two names or patterns have a host in common."""
    return hosts.matches(host, pattern) or hosts.matches(pattern, host)


def _with_port(service: Service, listener: Egress, recall: Recall) -> Service | None:
    """The service with the listener's port only; None without it. HTTP proxies and listeners without port have all."""
    if listener.port is None or not _has_one_port(listener):
        return service
    return _trimmed(service, frozenset({listener.port.number}), recall)


def _has_one_port(listener: Egress) -> bool:
    """Whether it is for one port of the services (Istio: needsPortMatch)."""
    port = listener.port
    return port is not None and port.number != 0 and port.protocol is not Protocol.HTTP_PROXY


def _trimmed(service: Service, numbers: frozenset[int], recall: Recall) -> Service | None:
    ports = tuple(port for port in service.ports if port.number in numbers)
    if len(ports) == len(service.ports):
        return service
    return recall.of(("ports", numbers), (service,), lambda: replace(service, ports=ports)) if ports else None


def _led_to(known: Registry, view: View, namespace: str, recall: Recall) -> Iterator[Service]:
    """Services that the view's rules lead to: they need clusters, and no listener (Istio: collectImportedServices).

    Behind a listener with a port it is that port that counts, whatever port the rules name.
    """
    if view.index.imports is None:
        return
    wanted: dict[str, set[int]] = {}
    for rules in view.index.in_mesh(namespace):
        for target in rules.targets:
            wanted.setdefault(target.host, set()).add(target.port)
    for host, numbers in wanted.items():
        service = known.find(host, namespace)
        if service is None:
            continue
        if 0 in numbers or _has_one_port(view.listener):
            found = _with_port(service, view.listener, recall)
        else:
            found = _trimmed(service, frozenset(numbers), recall)
        if found is not None:
            yield found


@dataclass(slots=True, kw_only=True)
class _Union:
    """Services by host as listeners add them: the first of a host counts, later ones may add ports to it."""

    recall: Recall
    services: dict[str, Service] = field(default_factory=dict)

    def add(self, service: Service) -> None:
        """Adds a service or what it has more than the one known by its host."""
        known = self.services.setdefault(service.host, service)
        if known is service or known.namespace != service.namespace:
            return
        more = tuple(port for port in service.ports if known.port(port.number) is None)
        if more:
            joined = self.recall.of("joined", (known, service), lambda: replace(known, ports=(*known.ports, *more)))
            self.services[service.host] = joined

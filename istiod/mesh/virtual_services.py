"""VirtualServices, indexed: which one serves a host, for whom (features rows F1, F19).

Objects are read once (http_rules, l4_rules) and kept as long as they do not change. Of several for one mesh host those
come first that are not for everybody: the client's own namespace's, then what others export to it; of equals the oldest
(Istio: initVirtualServices). Hosts of gateways are merged by gateway_routes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from crds import unhonoured, virtual_service
from crds.diagnostic import Diagnostic
from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigSnapshot
from istiod.mesh import conditions, creation, delegation, hosts, http_rules, l4_rules, registry
from istiod.mesh.delegation import Delegation
from istiod.mesh.grouping import grouped
from istiod.mesh.http_rules import Copy, HttpRule, Share, Target
from istiod.mesh.l4_rules import L4Rule
from istiod.mesh.settings import MeshSettings

_Sources = tuple[virtual_service.VirtualService | None, ...]
_OWN, _FROM_OTHERS, _FOR_EVERYBODY = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """One object, read. ``hosts`` are full names; ``gateways`` are ``mesh`` and ``namespace/name``.

    ``first_host`` is the first host as written; it names spans where no single destination does. ``targets`` are
    all that its rules lead to.
    """

    key: ConfigKey
    created: datetime | None
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    export_to: frozenset[str]
    first_host: str
    http: tuple[HttpRule, ...] = ()
    tls: tuple[L4Rule, ...] = ()
    tcp: tuple[L4Rule, ...] = ()
    targets: tuple[Target, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def age(self) -> creation.Age:
        """Sort key: the oldest first, then by name and namespace."""
        return creation.age(self.created, self.key.name, self.key.namespace)

    def place(self, namespace: str) -> tuple[int, creation.Age]:
        """Sort key among those that clients of ``namespace`` see: who comes first."""
        if registry.EVERYWHERE in self.export_to:
            return _FOR_EVERYBODY, self.age
        return (_OWN if self.key.namespace == namespace else _FROM_OTHERS), self.age

    def selectors(self) -> Iterator[str]:
        """Ids of the source label selectors that its rules look at."""
        for rule in self.http:
            yield from (c.source.selector for c in rule.conditions if c.source.selector)
        for l4 in (*self.tls, *self.tcp):
            yield from (m.source.selector for m in l4.matches if m.source.selector)

    def source_namespaces(self) -> Iterator[str]:
        """Namespaces that its rules tell from others."""
        for rule in self.http:
            yield from (c.source.namespace for c in rule.conditions if c.source.namespace)
        for l4 in (*self.tls, *self.tcp):
            yield from (m.source.namespace for m in l4.matches if m.source.namespace)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VirtualServiceIndex:
    """All VirtualServices, oldest first, by key, by mesh host and by gateway.

    ``wildcards`` are the patterns among the mesh hosts, most specific first. ``objects`` are all of them as written;
    ``read`` remembers what each was read from, the objects that it delegates to among it, so that the next index reads
    only what changed. ``imports`` says what of the mesh a class of sidecars knows at all; None is everything.
    """

    by_key: Mapping[ConfigKey, VirtualService] = field(default_factory=dict)
    by_host: Mapping[str, tuple[VirtualService, ...]] = field(default_factory=dict)
    wildcards: tuple[str, ...] = ()
    by_gateway: Mapping[str, tuple[VirtualService, ...]] = field(default_factory=dict)
    selectors: frozenset[str] = frozenset()
    objects: Mapping[ConfigKey, virtual_service.VirtualService] = field(default_factory=dict)
    read: Mapping[ConfigKey, _Sources] = field(default_factory=dict)
    settings: MeshSettings = field(default_factory=MeshSettings)
    imports: Callable[[VirtualService], bool] | None = None
    broad: tuple[VirtualService, ...] = ()
    """Those for sidecars that name several hosts."""

    def importing(self, imports: Callable[[VirtualService], bool]) -> VirtualServiceIndex:
        """The index as sidecars see it that know only those objects for which ``imports`` holds."""
        return replace(self, imports=imports)

    def _visible(self, one: VirtualService, namespace: str) -> bool:
        return registry.exported(one.export_to, namespace) and (self.imports is None or self.imports(one))

    def for_requests(self, host: str, namespace: str) -> tuple[VirtualService, ...]:
        """Those that speak for HTTP requests to a service as proxies of ``namespace`` see it, the one to ask first.

        Those that name the host; else the first of those with the most specific pattern that holds it, and no other
        (Istio: computeWildcardHostVirtualServiceIndex). Later ones matter only where the first has no rule for a
        client (Istio: one without routes for the listener is passed over).
        """
        if exact := self._seen(self.by_host.get(host, ()), namespace):
            return exact
        patterns = (p for p in self.wildcards if hosts.matches(p, host))
        found = (self._seen(self.by_host[pattern], namespace) for pattern in patterns)
        return next((several[:1] for several in found if several), ())

    def for_connections(self, host: str, namespace: str) -> tuple[VirtualService, ...]:
        """All that speak for TLS and TCP connections to a service: those with a host in common (getConfigsForHost)."""
        names = [host, *(pattern for pattern in self.wildcards if hosts.matches(pattern, host))]
        if hosts.is_wildcard(host):
            names += (name for name in self.by_host if hosts.matches(host, name))
        found = {one.key: one for name in names for one in self.by_host.get(name, ())}
        return self._seen(found.values(), namespace)

    def _seen(self, several: Iterable[VirtualService], namespace: str) -> tuple[VirtualService, ...]:
        """Those that proxies of ``namespace`` see, in the order in which they count there."""
        seen = [one for one in several if self._visible(one, namespace)]
        return tuple(sorted(seen, key=lambda one: one.place(namespace)))

    def in_mesh(self, namespace: str) -> tuple[VirtualService, ...]:
        """Those for sidecars that proxies of ``namespace`` see, the one to ask first."""
        return self._seen((one for one in self.by_key.values() if conditions.MESH in one.gateways), namespace)

    def naming_several(self, namespace: str) -> tuple[VirtualService, ...]:
        """Those of ``in_mesh`` that name several hosts."""
        return self._seen(self.broad, namespace)

    def for_gateway(self, gateway: str, namespace: str) -> tuple[VirtualService, ...]:
        """Those bound to a gateway (``namespace/name``) that routers of ``namespace`` see, the one to ask first."""
        several = self.by_gateway.get(gateway, ())
        seen = [one for one in several if registry.exported(one.export_to, namespace)]
        return tuple(sorted(seen, key=lambda one: one.place(namespace)))

    def matched(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """What a sidecar's labels mean to rules: the ids for ScopeKey.matched, sorted.

        Labels that no rule looks at leave no trace, so that proxies share scopes.
        """
        own = frozenset(f"{name}={value}" for name, value in labels.items())
        return tuple(sorted(one for one in self.selectors if own.issuperset(one.split(","))))


def build(
    snapshot: ConfigSnapshot, settings: MeshSettings, previous: VirtualServiceIndex | None = None
) -> VirtualServiceIndex:
    """The index of a snapshot; objects that ``previous`` has read already are not read again."""
    objects = {
        key: item
        for key, item in snapshot.of(NETWORKING, "VirtualService").items()
        if isinstance(item, virtual_service.VirtualService)
    }
    known = previous if previous is not None and previous.settings == settings else VirtualServiceIndex()
    sources = {key: (item, *map(objects.get, delegation.named(item))) for key, item in objects.items()}
    others = Delegation(
        find=objects.get, export_to=tuple(settings.virtual_service_export_to), dns_domain=settings.dns_domain
    )
    found = sorted(
        (
            known.by_key[key] if _same(known.read.get(key, ()), sources[key]) else _read(item, settings, others)
            for key, item in objects.items()
        ),
        key=lambda one: one.age,
    )
    by_host = grouped((host, one) for one in found if conditions.MESH in one.gateways for host in one.hosts)
    return VirtualServiceIndex(
        by_key={one.key: one for one in found},
        by_host=by_host,
        wildcards=tuple(sorted(filter(hosts.is_wildcard, by_host), key=hosts.specificity, reverse=True)),
        by_gateway=grouped((name, one) for one in found for name in one.gateways if name != conditions.MESH),
        selectors=frozenset(selector for one in found for selector in one.selectors()),
        objects=objects,
        read=sources,
        settings=settings,
        broad=tuple(one for one in found if len(one.hosts) > 1 and conditions.MESH in one.gateways),
    )


def _same(before: _Sources, now: _Sources) -> bool:
    return len(before) == len(now) and all(map(operator.is_, before, now))


def _read(item: virtual_service.VirtualService, settings: MeshSettings, others: Delegation) -> VirtualService:
    key, spec = item.key, item.spec
    reader = http_rules.Reader(key=key, dns_domain=settings.dns_domain, default_retry=settings.default_retry)
    written, of_delegates = others.expand(item)
    http, findings = reader.rules(spec.http, written)
    tls, tcp = l4_rules.tls(reader, spec.tls), l4_rules.tcp(reader, spec.tcp)
    leads: list[Share | Copy] = []
    for rule in http:
        leads += (*rule.shares, *rule.mirrors)
    for l4 in (*tls, *tcp):
        leads += l4.shares
    names = dict.fromkeys(hosts.resolve(name.lower(), key.namespace, settings.dns_domain) for name in spec.hosts)
    gateways = dict.fromkeys(conditions.resolve_gateway(name, key.namespace) for name in spec.gateways)
    return VirtualService(
        key=key,
        created=item.metadata.creation_timestamp,
        hosts=tuple(names),
        gateways=tuple(gateways) or (conditions.MESH,),
        export_to=registry.audience(spec.export_to, key.namespace, settings.virtual_service_export_to),
        first_host=next(iter(spec.hosts), ""),
        http=http,
        tls=tls,
        tcp=tcp,
        targets=tuple(dict.fromkeys(one.target for one in leads)),
        diagnostics=(*of_delegates, *findings, *unhonoured.findings(item)),
    )

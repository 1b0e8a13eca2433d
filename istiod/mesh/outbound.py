"""What a class of sidecars gets for traffic that leaves the app (DESIGN section 2; rows S45, S49, S50, S74).

Puts the parts together: clusters, listeners, route tables. Each part is made from named inputs and remembered by them,
so that a change costs the hosts that it touches. What the class sees is egress.py's; gateways have their own
(gateways.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from istiod.mesh import (
    allocation,
    domains,
    dynamic_dns,
    egress,
    http_proxy,
    leaves,
    name_table,
    outbound_clusters,
    outbound_listeners,
    perspective,
    reports,
    route_tables,
)
from istiod.mesh.conditions import Client
from istiod.mesh.credentials import CredentialIndex, Vault
from istiod.mesh.egress import Sight, View
from istiod.mesh.http_routes import Resolver
from istiod.mesh.model import Model
from istiod.mesh.outbound_listeners import Piece, Place
from istiod.mesh.recall import Recall
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Credential, Listener, OutboundScope, ScopeKey
from istiod.mesh.service import Service
from istiod.mesh.settings import MeshSettings, OutboundMode
from istiod.mesh.sidecars import UNIX
from istiod.mesh.virtual_services import VirtualServiceIndex


def scope(
    mesh: Model,
    index: VirtualServiceIndex,
    key: ScopeKey,
    previous: OutboundScope | None = None,
    recall: Recall | None = None,
) -> OutboundScope:
    """The outbound scope of sidecars of one key.

    Args:
        mesh: the mesh.
        index: its VirtualServices.
        key: whose scope; ``matched`` holds what ``index.matched(labels)`` says.
        previous: the scope of the same key before; leaves equal to its leaves are the same objects.
        recall: what earlier scopes were made from; None: everything is made anew.
    """
    recall = recall or Recall()
    model = mesh.of_clients(key.namespace, key.matched, recall)
    sight = allocation.addressed(egress.sight(model, index, key, recall), key.allocated, recall)
    sees = perspective.of(model, index, key.namespace, recall)
    reached = reports.reaching(sight.services, key.own, model.registry, recall)
    upstream = outbound_clusters.of(model, key, sees, reached, recall)
    secrets: Mapping[str, Credential] = {}
    if model is not mesh:  # only rules that select their clients give them credentials
        vault = Vault(
            index=model.credentials if key.credentials else CredentialIndex(),
            namespace=key.namespace,
            external=key.external_credentials,
        )
        upstream = recall.of_many("usable", (upstream, vault.index), lambda: vault.usable(upstream))
        secrets = vault.needed(one.tls for one in upstream.values())
    if sight.settings.egress_proxy and sight.settings.egress_proxy not in upstream:
        sight = replace(sight, settings=_refusing(sight.settings, recall))
    known = recall.of_many("by host", (sight.services,), lambda: {one.host: one for one in sight.services})
    maker = _Maker(
        model=model,
        client=Client(namespace=sees, selectors=frozenset(key.matched)),
        resolver=Resolver(settings=sight.settings, port=0, services=known, clusters=upstream),
        recall=recall,
        key=key,
    )
    listeners, routes = maker.views(sight)
    made = OutboundScope(
        key=key,
        clusters=upstream,
        listeners=listeners,
        routes=routes,
        secrets=secrets,
        names=recall.of_many(
            "names", (sight.services, key.families), lambda: name_table.of(sight.services, key.families)
        )
        if key.names
        else None,
    )
    return leaves.reuse(made, previous, recall)


def _refusing(settings: MeshSettings, recall: Recall) -> MeshSettings:
    """Traffic for unknown hosts goes nowhere: the egress proxy that it has to go through is not there."""
    return recall.of(
        "no egress proxy", (settings,), lambda: replace(settings, outbound=OutboundMode.REGISTRY_ONLY, egress_proxy="")
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Front:
    """The listeners of a view, and the part that stands for each of their route tables."""

    listeners: tuple[Listener, ...]
    owners: Mapping[str, Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes listeners and tables of one scope, view by view. ``resolver`` knows all services, its port is moot.

    ``client`` sees rules as perspective.of says, which need not be with the eyes of the key's namespace.
    """

    model: Model
    client: Client
    resolver: Resolver
    recall: Recall
    key: ScopeKey

    def views(self, sight: Sight) -> tuple[Mapping[str, Listener], Mapping[str, RouteTable]]:
        """Listeners and tables by name. What an earlier view has is not given again by a later one."""
        first = outbound_listeners.virtual_outbound(sight.settings, self.key.families)
        first = dynamic_dns.catching(first, self.resolver.clusters, sight.settings)
        listeners = {first.name: replace(first, own=self.key.own)} if self.key.captured else {}
        held = self._reserved(first, sight.settings) if self.key.captured else set()
        routes: dict[str, RouteTable] = {}
        for view in sight.views:
            front = self._front(view, frozenset(held))
            listeners.update((one.name, one) for one in front.listeners)
            held.update(place for one in front.listeners for place in one.places)
            owners = {rds: piece for rds, piece in front.owners.items() if rds not in routes}
            routes.update(self._tables(view, front.owners if len(owners) == len(front.owners) else owners))
        if self.key.http_proxy:
            behind = http_proxy.view(sight)
            caches = dynamic_dns.caches(behind.services, self.resolver.clusters, sight.settings)
            one = http_proxy.listener(self.key.http_proxy, self.key.families, caches)
            if held.isdisjoint(one.places):
                listeners[one.name] = replace(one, own=self.key.own)
                routes[http_proxy.TABLE] = self._proxy_table(http_proxy.TABLE, behind)
        return listeners, routes

    def _reserved(self, first: Listener, settings: MeshSettings) -> set[Place]:
        """What no service may have: where captured traffic comes, both ways (Istio: conflictWithReservedListener)."""
        return {*first.places, *((one, settings.inbound_port) for one in self.key.families.wildcards)}

    def _front(self, view: View, held: frozenset[Place]) -> _Front:
        """The listeners of a view but for places that are held."""
        said = view.listener
        parts = self.recall.of_many(
            ("parts", said.port, said.bind, said.binds, self.key.families),
            (view.services, self.model.summaries),
            lambda: self._parts(view),
        )
        known, lent = self.resolver, self._lent(view)
        inputs = (parts, view.index, known.services, known.clusters, known.settings)
        name = ("front", self.client, held, self.key.own, lent)
        return self.recall.of_many(name, inputs, lambda: self._made(view, parts, held, dict(lent)))

    def _lent(self, view: View) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Hosts that speak TLS, with what clients call them by ExternalName Services."""
        namespace, dns_domain, found = self.key.namespace, self.resolver.settings.dns_domain, self.resolver.services
        lent: dict[str, tuple[str, ...]] = {}
        for alias in self._aliases(view):
            service = found.get(alias.external_name)
            if service is not None and any(port.protocol.is_tls for port in service.ports):
                names = domains.of_host(alias.host, namespace, dns_domain)
                lent[service.host] = (
                    *lent.get(service.host, ()),
                    *(name for name in names if not name.endswith(".")),
                )
        return tuple(lent.items())

    def _aliases(self, view: View) -> tuple[Service, ...]:
        return self.recall.of_many("aliases", (view.services,), lambda: _aliases(view.services))

    def _parts(self, view: View) -> tuple[Piece, ...]:
        return tuple(
            part
            for one in view.services
            for part in outbound_listeners.pieces(self.model, one, self.recall, view.listener, self.key.families)
        )

    def _made(
        self, view: View, parts: tuple[Piece, ...], held: frozenset[Place], lent: Mapping[str, tuple[str, ...]]
    ) -> _Front:
        builder = outbound_listeners.Builder(
            index=view.index,
            client=self.client,
            resolver=self.resolver,
            recall=self.recall,
            own=self.key.own,
            more_names=lent,
        )
        listeners = tuple(builder.listeners(parts, held))
        wanted = {chain.http.rds for one in listeners for chain in one.chains if chain.http}
        owners = {piece.rds: piece for piece in reversed(parts) if piece.rds in wanted}
        return _Front(listeners=listeners, owners=owners)

    def _tables(self, view: View, owners: Mapping[str, Piece]) -> Iterator[tuple[str, RouteTable]]:
        if view.is_proxy:
            yield from ((rds, self._proxy_table(rds, view)) for rds in owners)
        else:
            yield from self._builder(view).tables(owners, self._sharing(view), self.resolver.clusters)

    def _proxy_table(self, name: str, view: View) -> RouteTable:
        inputs = (view.services, view.index, self.resolver.clusters, self.resolver.settings)
        # Of a Sidecar's listener of HTTP_PROXY the port does not count, as on Istio; nothing else is behind the mesh's
        by_port = name == http_proxy.TABLE or name.startswith(UNIX)
        return self.recall.of_many(
            ("proxy table", name, self.client, self.key.namespace),
            inputs,
            lambda: self._builder(view).proxy_table(name, self._sharing(view).values(), by_port=by_port),
        )

    def _builder(self, view: View) -> route_tables.Builder:
        return route_tables.Builder(
            index=view.index,
            client=self.client,
            namespace=self.key.namespace,
            recall=self.recall,
            settings=self.resolver.settings,
            aliases=self._aliases(view),
        )

    def _sharing(self, view: View) -> Mapping[int, Resolver]:
        """By port: who resolves destinations for requests that were sent to it."""
        ports = self.recall.of_many("by port", (view.services,), lambda: _by_port(view.services))
        return {number: replace(self.resolver, port=number, services=found) for number, found in ports.items()}


def _aliases(services: Iterable[Service]) -> tuple[Service, ...]:
    return tuple(one for one in services if route_tables.is_alias(one))


def _by_port(services: Iterable[Service]) -> Mapping[int, Mapping[str, Service]]:
    sharing: dict[int, dict[str, Service]] = {}
    for one in services:
        for port in one.ports:
            sharing.setdefault(port.number, {})[one.host] = one
    return sharing

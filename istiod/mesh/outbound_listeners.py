"""Listeners for traffic that leaves the app: one per port for HTTP, one per address and port for the rest (S74, D13).

Services that meet on one address and port share a listener: HTTP by protocol, TLS by server name, TCP by destination
address; what is left is passed through. Of two that cannot be told apart the older one serves, in whatever order the
objects came (Istio: buildSidecarOutboundListeners; there the order of arrival decides some of this).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from istiod.mesh import clusters, dynamic_dns, families, l4_routes, node_settings
from istiod.mesh.conditions import Client
from istiod.mesh.families import Families
from istiod.mesh.http_routes import Resolver
from istiod.mesh.l4_routes import L4Route
from istiod.mesh.model import Model
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.recall import Recall
from istiod.mesh.scope import (
    HTTP_APPLICATION_PROTOCOLS,
    Chain,
    ChainMatch,
    Direction,
    Http,
    Listener,
    Tcp,
    WeightedCluster,
)
from istiod.mesh.service import Port, Protocol, Resolution, Service
from istiod.mesh.settings import MeshSettings, OutboundMode
from istiod.mesh.sidecars import Egress
from istiod.mesh.virtual_services import VirtualService, VirtualServiceIndex

VIRTUAL_OUTBOUND = "virtualOutbound"
PASSTHROUGH_CHAIN = "PassthroughFilterChain"
_RAW = "raw_buffer"
_ANYTHING = ChainMatch()
_FOR_EVER = timedelta(0)
_SERVER_FIRST = frozenset({Protocol.MONGO, Protocol.MYSQL})

Rules = tuple[VirtualService, ...]
Place = tuple[str, int]
"""An address and a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A service port's part of a listener. ``prefixes`` tell it from others where the address is the wildcard.

    ``more`` are further addresses that the listener has, of the other IP version.
    """

    bind: str
    service: Service
    port: Port
    prefixes: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    binds: bool = False
    """Apps connect to the listener's own address: nothing is captured."""
    leads_to: int = 0
    """The service's port where the listener's own is none (0): behind a Unix domain socket."""

    @property
    def key(self) -> Place:
        """Which listener it is a part of."""
        return (self.bind, self.port.number)

    @property
    def name(self) -> str:
        """The name of that listener."""
        return f"{self.bind}_{self.port.number}"

    @property
    def everywhere(self) -> bool:
        """It is for any address, unless prefixes say more."""
        return self.bind in families.WILDCARDS

    @property
    def sniffed(self) -> bool:
        """The protocol is not declared."""
        return self.port.protocol is Protocol.UNSUPPORTED

    @property
    def rds(self) -> str:
        """The route table of its HTTP requests: the port's (a socket's), or its own where the address is its own."""
        if not self.port.number:
            return self.bind
        own = self.sniffed and (not self.everywhere or self.prefixes)
        return f"{self.service.host}:{self.port.number}" if own else str(self.port.number)


def pieces(model: Model, service: Service, recall: Recall, listener: Egress, spoken: Families) -> tuple[Piece, ...]:
    """The parts that a service has in the listeners of an egress listener. UDP and second names have none."""
    inputs = (service, model.summary(service.host, service.namespace))
    name = ("pieces", listener.port, listener.bind, listener.binds, spoken)
    return recall.of(name, inputs, lambda: tuple(_pieces(model, service, listener, spoken)))


def _pieces(model: Model, service: Service, listener: Egress, spoken: Families) -> Iterator[Piece]:
    ports = (listener.port,) if listener.port else service.ports
    said = (listener.bind,) if listener.bind else spoken.loopbacks if listener.binds else ()
    for port in ports if service.resolution is not Resolution.ALIAS else ():
        if port.protocol is Protocol.UDP:
            continue
        if not port.number and not port.protocol.may_be_http:
            yield from _at_socket(service, port, listener.bind)
        elif said or port.protocol.is_http:
            bind, *more = said or spoken.wildcards
            yield Piece(bind=bind, more=tuple(more), service=service, port=port, binds=bool(listener.binds))
        else:
            yield from _by_address(model, service, port, spoken)


def _at_socket(service: Service, port: Port, bind: str) -> Iterator[Piece]:
    """Opaque bytes of a Unix domain socket go to the first port of the service that takes such."""
    opaque = (one for one in service.ports if not one.protocol.is_http and one.protocol is not Protocol.UDP)
    for one in list(opaque)[:1]:
        yield Piece(bind=bind, service=service, port=port, binds=True, leads_to=one.number)


def _by_address(model: Model, service: Service, port: Port, spoken: Families) -> Iterator[Piece]:
    """Opaque and undeclared ports: at the service's addresses, at its pods' where it is headless, else anywhere."""
    own = spoken.spoken(service.addresses)
    single = tuple(address.partition("/")[0] for address in own if not _is_subnet(address))
    subnets = tuple(address for address in own if _is_subnet(address))
    anywhere = Piece(bind=spoken.wildcards[0], more=spoken.wildcards[1:], service=service, port=port)
    leading = tuple(one for one in single if (":" in one) == (":" in single[0]))
    for bind in leading:
        more = tuple(one for one in single if one not in leading) if bind == leading[0] else ()
        yield Piece(bind=bind, more=more, service=service, port=port)
    if subnets:
        yield replace(anywhere, prefixes=subnets)
    if service.addresses:
        return
    if service.kubernetes and service.resolution is Resolution.PASSTHROUGH:
        pods = dict(model.summary(service.host, service.namespace).addresses).get(port.number, ())
        if pods:
            yield replace(anywhere, prefixes=tuple(_one(pod) for pod in pods))
        return
    yield anywhere


def _is_subnet(address: str) -> bool:
    _, slash, bits = address.partition("/")
    return bool(slash) and bits != ("128" if ":" in address else "32")


def _one(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"


def virtual_outbound(settings: MeshSettings, spoken: Families) -> Listener:
    """The listener that iptables sends everything to; it hands connections over to the others."""
    hole = Chain(
        name="virtualOutbound-blackhole",
        match=ChainMatch(destination_port=settings.outbound_port),
        tcp=_to(clusters.BLACKHOLE),
    )
    rest = Chain(name="virtualOutbound-catchall-tcp", tcp=_rest(settings))
    return Listener(
        name=VIRTUAL_OUTBOUND,
        address=spoken.wildcards[0],
        additional_addresses=spoken.wildcards[1:],
        port=settings.outbound_port,
        direction=Direction.OUTBOUND,
        chains=(hole, rest),
        use_original_dst=True,
    )


def _rest(settings: MeshSettings) -> Tcp:
    refused = settings.outbound is OutboundMode.REGISTRY_ONLY
    return _to(clusters.BLACKHOLE if refused else settings.egress_proxy or clusters.PASSTHROUGH)


def _to(cluster: str) -> Tcp:
    return Tcp(stat_prefix=cluster, clusters=(WeightedCluster(cluster=cluster),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Makes the listeners of one scope. ``resolver`` knows all services; its port plays no part."""

    index: VirtualServiceIndex
    client: Client
    resolver: Resolver
    recall: Recall
    own: NodeSettings = node_settings.NOTHING
    more_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Second names of hosts, by which TLS may ask for them as well."""

    def listeners(self, parts: Iterable[Piece], held: Container[Place]) -> Iterator[Listener]:
        """One listener for each address and port that has parts, and is not held; parts come oldest first."""
        groups: dict[Place, list[Piece]] = {}
        for piece in self._placed(tuple(parts), held):
            group = groups.setdefault(piece.key, [])
            if not group or share(group[0], piece):
                group.append(piece)
        for (bind, port), group in groups.items():
            if not group[0].binds or self.own.listens(port):
                yield self._recalled(bind, port, group)

    def _placed(self, parts: tuple[Piece, ...], held: Container[Place]) -> Iterator[Piece]:
        """The parts, so that no two listeners have an address in common: Envoy refuses the second.

        Where a part's further address is one that others listen on by itself, it is a part there too.
        """
        own = {piece.key for piece in parts}
        lent: dict[Place, Place] = {}
        for piece in parts:
            places = [(bind, piece.port.number) for bind in piece.more]
            free = (p for p in places if p not in held and p not in own)
            more = tuple(place[0] for place in free if lent.setdefault(place, piece.key) == piece.key)
            if piece.key not in held:
                yield piece if more == piece.more else self._moved(piece, piece.bind, more)
            yield from (self._moved(piece, p[0], ()) for p in places if p in own and p not in held)

    def _moved(self, piece: Piece, bind: str, more: tuple[str, ...]) -> Piece:
        return self.recall.of(("moved", bind, more), (piece,), lambda: replace(piece, bind=bind, more=more))

    def _recalled(self, bind: str, port: int, group: list[Piece]) -> Listener:
        ruled = [(piece, self._rules(piece)) for piece in group]
        resolver = replace(self.resolver, port=port)
        inputs = (
            *group,
            *(self.resolver.clusters.get(_cluster(piece)) for piece in group if not piece.port.protocol.is_http),
            *(one for piece in group for one in dynamic_dns.clusters_of(piece.service, self.resolver.clusters)),
            self.resolver.clusters.get(clusters.ANY_HOST),
            *resolver.inputs(one for _, rules in ruled for one in rules),
        )
        client = self.client if any(rules for _, rules in ruled) else None
        keep = self.recall.of if len(group) == 1 else self.recall.of_many
        more = tuple(self._more_names(piece) for piece in group)
        name = ("listener", client, bind, port, self.own, more if any(more) else ())
        return keep(name, inputs, lambda: self._listener(bind, ruled, resolver))

    def _more_names(self, piece: Piece) -> tuple[str, ...]:
        return self.more_names.get(piece.service.host, ()) if piece.port.protocol.is_tls else ()

    def _rules(self, piece: Piece) -> Rules:
        if piece.port.protocol.is_http:
            return ()
        return self.index.for_connections(piece.service.host, self.client.namespace)

    def _listener(self, bind: str, group: list[tuple[Piece, Rules]], resolver: Resolver) -> Listener:
        settings = resolver.settings
        http = _http_chains([piece for piece, _ in group], resolver)
        matched = _Matched()
        opaque = [
            chain
            for piece, rules in group
            if not piece.port.protocol.is_http
            for chain in matched.add(self._opaque(piece, rules, resolver))
        ]
        plain = [chain for chain in (*http, *opaque) if chain.match == _ANYTHING]
        matching = [chain for chain in (*http, *opaque) if chain.match != _ANYTHING]
        default = plain[0] if plain else Chain(name=PASSTHROUGH_CHAIN, tcp=_rest(settings))
        guesses = any(chain.match.application_protocols for chain in matching)
        return Listener(
            name=group[0][0].name,
            address=bind,
            additional_addresses=tuple(dict.fromkeys(one for piece, _ in group for one in piece.more)),
            port=resolver.port,
            direction=Direction.OUTBOUND,
            bind=group[0][0].binds,
            own=self.own,
            chains=tuple(matching or plain[:1]),
            default_chain=default if matching else None,
            inspect_http=guesses,
            inspect_tls=any(chain.match.server_names for chain in matching),
            detection_timeout=settings.protocol_detection_timeout if guesses else _FOR_EVER,
        )

    def _opaque(self, piece: Piece, rules: Rules, resolver: Resolver) -> Iterator[Chain]:
        """The chains of a port that is not HTTP: TLS and TCP rules, then the service itself."""
        if piece.port.protocol.is_tls:
            names = (piece.service.host, *self._more_names(piece)) if by_name(piece) else ()
            found = l4_routes.tls(rules, self.client, resolver) or (_whole(piece, resolver, names),)
        else:
            ruled = l4_routes.tcp(rules, self.client, resolver)
            ended = bool(ruled) and not ruled[-1].subnets
            found = ruled if ended else (*ruled, _whole(piece, resolver, ()))
        for route in found:
            match = ChainMatch(prefixes=route.subnets or piece.prefixes, server_names=route.server_names)
            mongo = piece.port.protocol is Protocol.MONGO
            yield Chain(name="", match=match, tcp=replace(route.tcp, mongo=mongo), origin=route.origin)


def share(first: Piece, other: Piece) -> bool:
    """Whether two parts can have one listener: a client that waits cannot be told (isConflictWithWellKnownPort)."""
    protocols = {first.port.protocol, other.port.protocol}
    return len(protocols) == 1 or protocols.isdisjoint(_SERVER_FIRST)


def by_name(piece: Piece) -> bool:
    """Only the server name tells a TLS service from others: it has no address, or a subnet, and no pods of its own.

    Where that name is looked up, there has to be one.
    """
    headless = piece.service.kubernetes and piece.service.resolution is Resolution.PASSTHROUGH
    anywhere = piece.everywhere and bool(piece.prefixes or not piece.service.addresses)
    return (anywhere and not headless) or dynamic_dns.applies(piece.service)


def _cluster(piece: Piece) -> str:
    return clusters.cluster_name(clusters.OUTBOUND, "", piece.service.host, piece.leads_to or piece.port.number)


def _whole(piece: Piece, resolver: Resolver, server_names: tuple[str, ...]) -> L4Route:
    name = _cluster(piece)
    tcp = l4_routes.leading_to((WeightedCluster(cluster=name),), resolver.stat_name(name), resolver)
    return L4Route(tcp=tcp, server_names=server_names)


def _http_chains(group: list[Piece], resolver: Resolver) -> list[Chain]:
    """One chain for the port's table, and one for each undeclared service that its addresses tell apart."""
    found: dict[tuple[str, ...], Chain] = {}
    for piece in group:
        if (piece.port.protocol.is_http or piece.sniffed) and piece.prefixes not in found:
            shared = piece.everywhere or piece.sniffed
            match = ChainMatch(
                prefixes=piece.prefixes,
                transport_protocol=_RAW if shared else "",
                application_protocols=HTTP_APPLICATION_PROTOCOLS if shared else (),
            )
            sharing = [p for p in group if p.prefixes == piece.prefixes]
            http = Http(
                stat_prefix=f"outbound_{piece.bind}_{piece.port.number};",
                rds=piece.rds,
                grpc_web=any(p.port.protocol is Protocol.GRPC_WEB for p in sharing),
                caches=dynamic_dns.caches(_requested(sharing), resolver.clusters, resolver.settings),
            )
            found[piece.prefixes] = Chain(name="", match=match, http=http)
    return list(found.values())


def _requested(parts: Iterable[Piece]) -> Iterator[Service]:
    return (piece.service for piece in parts if piece.port.protocol.is_http)


@dataclass(slots=True)
class _Matched:
    """What the chains of one listener match already: Envoy refuses a listener where two match the same.

    It knows no upper case in server names.
    """

    taken: set[tuple[str, str]] = field(default_factory=set)

    def add(self, chains: Iterable[Chain]) -> Iterator[Chain]:
        """Those chains that still match something, without what is taken."""
        for chain in chains:
            prefixes, names = chain.match.prefixes or ("",), chain.match.server_names or ("",)
            names = tuple(dict.fromkeys(name.lower() for name in names))
            names = tuple(n for n in names if not all((p, n) in self.taken for p in prefixes))
            prefixes = tuple(p for p in dict.fromkeys(prefixes) if not any((p, n) in self.taken for n in names))
            if not names or not prefixes:
                continue
            self.taken.update((p, n) for p in prefixes for n in names)
            match = replace(
                chain.match,
                prefixes=prefixes if chain.match.prefixes else (),
                server_names=names if chain.match.server_names else (),
            )
            yield replace(chain, match=match)

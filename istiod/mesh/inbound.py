"""What a workload shape adds for traffic that enters the app: virtualInbound and its clusters (rows S49, S51, N2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from istiod.config.origin import Origin
from istiod.mesh import clusters, families, inbound_chains, inbound_routes, jwt, node_settings, stat_names
from istiod.mesh.authorization import Authorization
from istiod.mesh.clusters import INBOUND_PASSTHROUGH, cluster_name
from istiod.mesh.endpoint import Endpoint, Health, Workload
from istiod.mesh.families import Families
from istiod.mesh.inbound_chains import PLAINTEXT_HTTP, Target
from istiod.mesh.model import Model
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.policy import ConnectionPool, MutualTls, TrafficPolicy
from istiod.mesh.rate_limits import RateLimits
from istiod.mesh.recall import Recall
from istiod.mesh.route import Retry
from istiod.mesh.scope import (
    Chain,
    ChainMatch,
    Cluster,
    Direction,
    Discovery,
    DownstreamTls,
    InboundScope,
    Listener,
    ServiceRef,
    Tcp,
    WeightedCluster,
)
from istiod.mesh.service import Labels, Port, Protocol, Service
from istiod.mesh.settings import InboundMode, MeshSettings
from istiod.mesh.sidecars import Sidecar
from wire.node import Locality

LISTENER = "virtualInbound"
_INBOUND = "inbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """One port of the workload, and the service port that sends to it (of several the oldest service's).

    ``pool`` is what the service's DestinationRule or the Sidecar says of connections: limits hold at the receiving end
    too. ``address`` and ``app_port`` are where the app listens, if not where the connection was sent to: an address or
    the path of a Unix domain socket. ``bind`` is the address of a listener of its own that clients connect to,
    ``tls`` ends TLS for the app where the port has no mesh mTLS; ``origin`` is the Sidecar that asks for the port.
    """

    target: int
    service_port: int
    protocol: Protocol
    service: ServiceRef
    pool: ConnectionPool
    address: str = ""
    app_port: int = 0
    bind: str = ""
    tls: DownstreamTls | None = None
    origin: Origin | None = None
    stat_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything of a workload that its inbound configuration depends on: no pod name, no pod IP.

    ``mtls`` is the mode of every port without one of its own, ``port_mtls`` those, sorted. ``origin`` is the
    PeerAuthentication behind them. ``captured``: iptables bring the traffic. ``own``: what the proxy itself says.
    ``authorization`` is which requests it takes; None: all. ``retry`` is the mesh's word on inbound retries; None:
    Istio's.
    """

    ports: tuple[InboundPort, ...] = ()
    families: Families = Families.IPV4
    captured: bool = True
    own: NodeSettings = node_settings.NOTHING
    retry: Retry | None = None
    mtls: MutualTls = MutualTls.PERMISSIVE
    port_mtls: tuple[tuple[int, MutualTls], ...] = ()
    origin: Origin | None = None
    authorization: Authorization | None = None
    tokens: jwt.Providers = ()
    limits: RateLimits = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workload as services find it: labels, container ports by name, addresses. ``captured``: by iptables."""

    namespace: str
    labels: Labels
    ports: Mapping[str, int]
    addresses: tuple[str, ...]
    captured: bool = True
    own: NodeSettings = node_settings.NOTHING

    @property
    def families(self) -> Families:
        """The IP versions that it speaks."""
        return families.of(self.addresses)


def inputs(model: Model, namespace: str) -> tuple[object, ...]:
    """What of the mesh the shapes of a namespace's workloads depend on (for Recall)."""
    home = model.registry.in_namespace(namespace)
    known = (home, model.settings, model.summaries, model.declared, model.policies, model.sidecars, model.peers)
    more = (*model.rate_limits.inputs(namespace), *model.telemetry.inputs(namespace))
    return (*known, model.tokens, *model.authorizations.inputs(namespace), *more)


def shape(model: Model, place: Place, recall: Recall | None = None) -> Shape:
    """The shape of a workload: its ports, the mTLS modes that hold, and who may call it.

    The ports are those that services of its namespace send to, unless its Sidecar names them. ``recall`` remembers what
    policies come to; None: it is made anew.
    """
    said = model.sidecars.choose(place.namespace, place.labels)
    served = _served(model, place)
    ports = served if place.captured else {}  # else proxy and app would listen on the same ports
    if said and said.ingress:
        ports = {**(ports if model.settings.features.merge_ingress else {}), **_ingress(said, served, place)}
    if said:
        ports = {target: replace(port, pool=said.pool_of(target) or port.pool) for target, port in ports.items()}
    verdict = model.peers.of_workload(place.namespace, place.labels)
    return Shape(
        ports=tuple(ports[target] for target in sorted(ports) if target != model.settings.inbound_port),
        families=place.families,
        captured=place.captured,
        own=place.own,
        retry=model.settings.inbound_retry,
        mtls=verdict.mode,
        port_mtls=verdict.ports,
        origin=verdict.origin,
        authorization=model.authorizations.choose(place.namespace, place.labels, recall or Recall()),
        tokens=model.tokens.of_workload(place.namespace, place.labels),
        limits=model.rate_limits.choose(place.namespace, place.labels, recall or Recall()),
    )


def _served(model: Model, place: Place) -> dict[int, InboundPort]:
    """The ports that services send to.

    A UDP port counts as opaque TCP where nobody declares the number for TCP: so it does on Istio.
    """
    ports: dict[int, InboundPort] = {}
    for service, port, target in sorted(targets(model, place), key=lambda found: found[1].protocol is Protocol.UDP):
        ports.setdefault(target, _port(model, service, port, target))
    return ports


def _ingress(said: Sidecar, served: Mapping[int, InboundPort], place: Place) -> dict[int, InboundPort]:
    """The ports that a Sidecar names (row J2). What a service says of a port counts for metrics and limits only."""
    local = place.families.loopbacks[0]
    nobody = ServiceRef(host=f"{said.key.name}.{said.key.namespace}", name=said.key.name, namespace=said.key.namespace)
    ports: dict[int, InboundPort] = {}
    for one in said.ingress:
        number, known = one.port.number, served.get(one.port.number)
        own = next(iter(place.addresses), local)
        binds = one.binds if one.binds is not None else not place.captured
        bind = (one.bind or own) if binds else ""
        address = one.address or (own if one.target else local) if bind else one.address
        port = InboundPort(
            target=number,
            service_port=number,
            protocol=one.port.protocol,
            service=known.service if known else nobody,
            pool=known.pool if known else ConnectionPool(),
            address=address,
            app_port=one.target,
            bind=bind,
            tls=one.tls,
            origin=Origin(key=said.key),
            stat_name=known.stat_name if known else "",
        )
        ports.setdefault(number, port)
    return ports


def targets(model: Model, place: Place) -> Iterator[tuple[Service, Port, int]]:
    """The service ports that send to a workload, each with the workload's port; the oldest service first.

    A selector finds it by labels. Services without selector find it by an address of their endpoints (Kubernetes ones
    only where no other selects it: Istio, GetProxyServiceTargets), ServiceEntries by the endpoints that they name.
    """
    home, own = model.registry.choosers(place.namespace, place.labels), frozenset(place.addresses)
    selected = any(s.kubernetes and s.selector for s in home)
    for service in home:
        if service.selector:
            yield from _by_target(service, place)
        elif not service.kubernetes:
            yield from _declared(model, service, own)
        elif not selected and _serves_at(model, service, own):
            yield from _by_target(service, place)


def _by_target(service: Service, place: Place) -> Iterator[tuple[Service, Port, int]]:
    for port in service.ports:
        target = place.ports.get(port.target, 0) if isinstance(port.target, str) else port.target or port.number
        if target:
            yield service, port, target


def _declared(model: Model, service: Service, own: frozenset[str]) -> Iterator[tuple[Service, Port, int]]:
    for port in service.ports:
        for endpoint in model.declared.of(service.host, service.namespace, port.number):
            if endpoint.address in own:
                yield service, port, endpoint.port


def _serves_at(model: Model, service: Service, own: frozenset[str]) -> bool:
    known = model.summary(service.host, service.namespace).addresses
    return any(not own.isdisjoint(addresses) for _, addresses in known)


def _port(model: Model, service: Service, port: Port, target: int) -> InboundPort:
    rule = model.policies.lookup(service, service.namespace)
    return InboundPort(
        target=target,
        service_port=port.number,
        protocol=port.protocol,
        service=clusters.service_ref(service),
        pool=rule.policy(port.number).connection_pool if rule else ConnectionPool(),
        stat_name=stat_names.of(model.settings.inbound_stat_name, service, port, target),
    )


def scope(found: Shape, settings: MeshSettings) -> InboundScope:
    """Listeners and clusters of a shape."""
    upstreams = [_cluster(port, settings, found.families) for port in found.ports]
    rest = clusters.passthrough(INBOUND_PASSTHROUGH, settings, Direction.INBOUND, found.families.inbound_sources)
    listeners = [
        *((_listener(found, settings),) if found.captured else ()),
        *(_own_listener(found, one, settings) for one in found.ports if one.bind and found.own.listens(one.target)),
    ]
    return InboundScope(
        clusters={cluster.name: cluster for cluster in (*upstreams, rest)},
        listeners={listener.name: listener for listener in listeners},
    )


def _cluster(port: InboundPort, settings: MeshSettings, spoken: Families) -> Cluster:
    address = port.address or (spoken.loopbacks[0] if settings.inbound is InboundMode.LOCALHOST else "")
    policy = TrafficPolicy(connection_pool=port.pool)
    return Cluster(
        name=cluster_name(_INBOUND, "", "", port.target),
        discovery=Discovery.STATIC if address else Discovery.ORIGINAL_DST,
        direction=Direction.INBOUND,
        services=(port.service,),
        port=port.target,
        protocol=port.protocol,
        downstream_protocol=port.protocol is Protocol.UNSUPPORTED,
        policy=clusters.with_times(policy, settings),
        endpoints=(_app(address, port.app_port or port.target),) if address else (),
        bind_addresses=() if address else spoken.inbound_sources,
        port_override=0 if address else port.app_port,
        stat_name=port.stat_name,
    )


def _app(address: str, port: int) -> Endpoint:
    return Endpoint(
        address=address,
        port=port,
        labels=frozenset(),
        tls=False,
        health=Health.HEALTHY,
        weight=1,
        locality=Locality(),
        network="",
        identity="",
        node="",
        workload=Workload(),
    )


def _listener(found: Shape, settings: MeshSettings) -> Listener:
    """The listener that iptables sends everything to."""
    all_chains = [
        _blackhole(settings),
        *inbound_chains.chains(_rest(found, 0), Protocol.UNSUPPORTED, found.mtls),
    ]
    declared = {port.target for port in found.ports}
    for target, mode in found.port_mtls:
        if target not in declared:
            all_chains += inbound_chains.chains(_rest(found, target), Protocol.UNSUPPORTED, mode)
    for port in found.ports:
        if not port.bind:
            all_chains += _chains(found, port)
    whole = Listener(
        name=LISTENER,
        address=_anywhere(found),
        additional_addresses=found.families.wildcards[1:],
        port=settings.inbound_port,
        direction=Direction.INBOUND,
        chains=tuple(all_chains),
        use_original_dst=True,
        own=found.own,
    )
    return _inspecting(whole, settings)


def _own_listener(found: Shape, port: InboundPort, settings: MeshSettings) -> Listener:
    """The listener of a port that clients connect to themselves: nothing captures it (row B7)."""
    own = Listener(
        name=f"{port.bind}_{port.target}",
        address=port.bind,
        port=port.target,
        direction=Direction.INBOUND,
        chains=_chains(found, port),
        own=found.own,
    )
    return _inspecting(own, settings)


def _chains(found: Shape, port: InboundPort) -> tuple[Chain, ...]:
    mode = dict(found.port_mtls).get(port.target, found.mtls)
    target = _target(found, port)
    if port.tls is not None and mode is MutualTls.DISABLE:
        return (inbound_chains.terminating(target, port.protocol, port.tls),)
    return inbound_chains.chains(target, port.protocol, mode)


def _inspecting(listener: Listener, settings: MeshSettings) -> Listener:
    """The listener with the inspectors that its chains need."""
    tls_off = _without(listener.chains, lambda chain: chain.tls is not None)
    http_off = _without(listener.chains, lambda chain: chain.match.application_protocols == PLAINTEXT_HTTP)
    return replace(
        listener,
        inspect_tls=tls_off is not None,
        inspect_http=http_off is not None,
        tls_inspector_off=tls_off or (),
        http_inspector_off=http_off or (),
        detection_timeout=settings.protocol_detection_timeout,
    )


def _without(all_chains: Iterable[Chain], needs: Callable[[Chain], bool]) -> tuple[int, ...] | None:
    """Declared ports none of whose chains needs an inspector; None when no chain at all does."""
    needed: dict[int, bool] = {}
    for chain in all_chains:
        port = chain.match.destination_port
        needed[port] = needed.get(port, False) or needs(chain)
    if not any(needed.values()):
        return None
    return tuple(sorted(port for port, need in needed.items() if port and not need))


def _blackhole(settings: MeshSettings) -> Chain:
    """Traffic that names the listener's own port would loop."""
    return Chain(
        name=f"{LISTENER}-blackhole",
        match=ChainMatch(destination_port=settings.inbound_port),
        tcp=Tcp(stat_prefix=clusters.BLACKHOLE, clusters=(WeightedCluster(cluster=clusters.BLACKHOLE),)),
    )


def _rest(found: Shape, port: int) -> Target:
    """Ports that no service declares: all of them (0), or one that has an mTLS mode of its own."""
    return Target(
        port=port,
        http_name=f"{LISTENER}-catchall-http",
        tcp_name=LISTENER,
        http_stats=INBOUND_PASSTHROUGH,
        cluster=INBOUND_PASSTHROUGH,
        routes=inbound_routes.table(INBOUND_PASSTHROUGH, "", 0, found.retry),
        origin=found.origin,
        authorization=found.authorization,
        tokens=found.tokens,
        limits=found.limits,
    )


def _anywhere(found: Shape) -> str:
    return found.families.wildcards[0]


def _target(found: Shape, port: InboundPort) -> Target:
    name = f"{port.bind or _anywhere(found)}_{port.target}"
    cluster = cluster_name(_INBOUND, "", "", port.target)
    return Target(
        port=port.target,
        http_name=name,
        tcp_name=name,
        http_stats=f"{_INBOUND}_{name}",
        cluster=cluster,
        routes=inbound_routes.table(
            cluster,
            port.service.host,
            port.service_port,
            inbound_routes.retry(port.protocol, found.retry),
        ),
        origin=port.origin or found.origin,
        authorization=found.authorization,
        tokens=found.tokens,
        limits=found.limits,
    )

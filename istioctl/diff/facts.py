"""What one proxy does, as facts that people compare: routes, policies, mTLS, clusters, endpoints, listeners.

A fact has a title and lines. Two proxies with equal facts do the same; names that only the configuration sees are left
out. Every leaf of a message is in some fact, so that nothing changes unseen.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import any_pb2

from istioctl.diff import leaves
from istiod.explain import forwarding, held, listeners, rbac, routing, upstreams
from istiod.explain.call import Call, Direction, Tls, UndecidedError
from istiod.explain.held import Held
from wire import names

_PARTS: Final = 4
_BRIEF, _TECHNICAL = 4, 7
_FAULT: Final = "envoy.filters.http.fault"
_RETRIES: Final = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""What is retried where nobody says anything; with a timeout of 0 s (none) it goes without saying."""
_USUAL: Final = ("timeout: 0s",)
_NOWHERE: Final = "203.0.113.1"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Title:
    """What a fact is about. ``rank`` orders kinds: what people mean first."""

    rank: int
    text: str
    part_of: Title | None = None
    """A fact that has to be there before and after for this one to be told: else the whole is new or gone."""

    @property
    def technical(self) -> bool:
        """Whether it is about how Envoy is built rather than what it does."""
        return self.rank >= _TECHNICAL

    @property
    def brief(self) -> bool:
        """Whether it is enough to say that it is new or gone."""
        return self.rank >= _BRIEF


Facts = Mapping[Title, tuple[str, ...]]


def of(found: Held) -> Facts:
    """The facts of a proxy."""
    facts: dict[Title, tuple[str, ...]] = {}
    for table in found.routes.values():
        facts |= _table(table, found.clusters)
    for listener in found.listeners:
        facts |= _listener(listener, found.clusters)
        facts |= _security(listener)
    for cluster in found.clusters.values():
        facts |= _cluster(found, cluster)
    for config in found.extensions.values():
        facts[Title(rank=7, text=f"configuration of filter {config.name}")] = tuple(leaves.lines(config, "name"))
    if found.bootstrap is not None:
        facts[Title(rank=7, text="patches of the bootstrap, for pods that ask")] = tuple(leaves.lines(found.bootstrap))
    return facts


def _table(table: route_pb2.RouteConfiguration, clusters: Container[str]) -> Facts:
    facts = {}
    for host in table.virtual_hosts:
        title = f"requests to {host.name}" if table.name in host.name else f"requests to {host.name} ({table.name})"
        leads = any(_leads(one, clusters) for one in host.routes)
        routes = Title(rank=0 if leads else 6, text=title)
        facts[routes] = tuple(_host(host)) if leads else ("answered 503: no destination has such a port or subset",)
        facts[Title(rank=6, text=f"domains of {host.name} ({table.name})", part_of=routes)] = (
            *host.domains,
            *leaves.lines(host, "domains", "routes"),
        )
    facts[Title(rank=7, text=f"route table {table.name}")] = tuple(leaves.lines(table, "virtual_hosts"))
    return facts


def _leads(one: route_components_pb2.Route, clusters: Container[str]) -> bool:
    """Whether a route ends anywhere but at a cluster that does not exist."""
    to = one.route
    several = [each.name for each in to.weighted_clusters.clusters] or [to.cluster]
    return one.WhichOneof("action") != "route" or any(name in clusters for name in several)


def _host(host: route_components_pb2.VirtualHost) -> Iterator[str]:
    for one in host.routes:
        head = routing.said(one.match)
        yield f"{head} -> {_action(one)}"
        yield from (f"{head}: {line}" for line in _more(one))


def _action(one: route_components_pb2.Route) -> str:
    kind = one.WhichOneof("action")
    if kind == "redirect":
        call = Call(destination=_NOWHERE, port=80, authority="HOST", path="/PATH")
        return f"redirect to {routing.location(call, one)}"
    if kind == "direct_response":
        return f"answer {one.direct_response.status}"
    to = one.route
    if to.WhichOneof("cluster_specifier") == "weighted_clusters":
        several = to.weighted_clusters.clusters
        total = sum(each.weight.value for each in several) or 1
        return ", ".join(f"{100 * each.weight.value / total:.3g}% to {place(each.name)}" for each in several)
    return f"to {place(to.cluster or to.cluster_header)}"


def place(cluster: str) -> str:
    """A cluster for people: host, subset and port of ``outbound|PORT|SUBSET|HOST``."""
    parts = cluster.split("|")
    if len(parts) != _PARTS:
        return cluster
    _, port, subset, host = parts
    return (
        f"{host.partition('.svc.')[0]}:{port}{f' subset {subset}' if subset else ''}"
        if host
        else f"the app at port {port}"
    )


def _more(one: route_components_pb2.Route) -> Iterator[str]:
    """What a route does beside choosing where to: rewrites, headers, faults, retries, time-outs."""
    copy = route_components_pb2.Route()
    copy.CopyFrom(one)
    copy.ClearField("match")
    copy.route.ClearField("cluster")
    if copy.route.retry_policy.retry_on == _RETRIES:
        copy.route.ClearField("retry_policy")
    for each in copy.route.weighted_clusters.clusters:
        each.ClearField("weight")
        each.typed_per_filter_config.pop("istio.alpn", None)
    copy.typed_per_filter_config.pop("istio.alpn", None)
    fault = fault_pb2.HTTPFault()
    if _FAULT in copy.typed_per_filter_config and copy.typed_per_filter_config.pop(_FAULT).Unpack(fault):
        yield from _fault(fault)
    for line in leaves.lines(copy, "redirect", "direct_response"):
        plain = line.removeprefix("route.").replace("typed_per_filter_config.envoy.filters.http.", "")
        if plain not in _USUAL:
            yield plain
    if one.HasField("redirect"):
        yield from leaves.lines(one.redirect)


def _fault(fault: fault_pb2.HTTPFault) -> Iterator[str]:
    if fault.HasField("delay"):
        seconds = fault.delay.fixed_delay.ToTimedelta().total_seconds()
        yield f"{routing.percent(fault.delay.percentage):g}% wait {seconds:g} s"
    if fault.HasField("abort"):
        status = fault.abort.http_status or f"gRPC status {fault.abort.grpc_status}"
        yield f"{routing.percent(fault.abort.percentage):g}% are answered {status}"


def _listener(listener: listener_pb2.Listener, clusters: Container[str]) -> Facts:
    facts = {}
    facts[Title(rank=8, text=f"listener {listener.name}")] = tuple(
        leaves.lines(listener, "filter_chains", "default_filter_chain", "name")
    )
    for number, chain in enumerate(_chains(listener)):
        name = chain.name or str(number)
        match = " ".join(leaves.lines(chain.filter_chain_match))
        title = Title(rank=8, text=f"filter chain {name} of {listener.name}{f' ({match})' if match else ''}")
        facts[title] = tuple(_chain(chain))
        facts |= _inline(chain, clusters)
    return facts


def _chains(listener: listener_pb2.Listener) -> Iterator[listener_components_pb2.FilterChain]:
    yield from listener.filter_chains
    if listener.HasField("default_filter_chain"):
        yield listener.default_filter_chain


def _chain(chain: listener_components_pb2.FilterChain) -> Iterator[str]:
    if chain.HasField("transport_socket"):
        yield f"TLS: {_socket(chain.transport_socket)}"
    for each in chain.filters:
        config = held.unpacked(each.typed_config)
        if isinstance(config, hcm_pb2.HttpConnectionManager):
            yield from leaves.lines(config, "http_filters", "route_config", "rds")
            for one in config.http_filters:
                yield from _filter(one.name, one.typed_config)
        else:
            yield from _filter(each.name, each.typed_config)


def _filter(name: str, packed: any_pb2.Any) -> Iterator[str]:
    """A filter's settings; those of RBAC and tokens are facts of their own."""
    config = held.unpacked(packed)
    if config is None:
        yield f"filter {name} {leaves.hash_of(packed.value.hex())}"
    elif not isinstance(config, http_rbac_pb2.RBAC | tcp_rbac_pb2.RBAC | jwt_pb2.JwtAuthentication):
        yield f"filter {name}"
        yield from (f"{name.rpartition('.')[2]} {line}" for line in leaves.lines(config))


def _socket(socket: base_pb2.TransportSocket) -> str:
    """A transport socket on one line: whose certificates, whom it accepts, and a hash of all of it."""
    config = held.unpacked(socket.typed_config)
    if not isinstance(config, tls_pb2.UpstreamTlsContext | tls_pb2.DownstreamTlsContext):
        return "plain text" if socket.name.endswith("raw_buffer") else f"{socket.name} {leaves.hash_of(str(socket))}"
    common = config.common_tls_context
    parts = [f"certificate {one.name}" for one in common.tls_certificate_sds_secret_configs]
    root = common.combined_validation_context.validation_context_sds_secret_config.name
    parts += (
        [f"trusts {root}"] if root else ["trusts anybody"] if isinstance(config, tls_pb2.UpstreamTlsContext) else []
    )
    if wanted := listeners.client_names(common):
        parts.append(f"accepts {listeners.said(wanted)}")
    if isinstance(config, tls_pb2.UpstreamTlsContext) and config.sni:
        parts.append(f"server name {config.sni}")
    if isinstance(config, tls_pb2.DownstreamTlsContext) and config.require_client_certificate.value:
        parts.append("asks for a certificate")
    return f"{', '.join(parts)} [{leaves.hash_of(' '.join(leaves.lines(config)))}]"


def _inline(chain: listener_components_pb2.FilterChain, clusters: Container[str]) -> Facts:
    found: dict[Title, tuple[str, ...]] = {}
    for each in chain.filters:
        config = held.unpacked(each.typed_config)
        if isinstance(config, hcm_pb2.HttpConnectionManager) and config.HasField("route_config"):
            found |= _table(config.route_config, clusters)
    return found


def _security(listener: listener_pb2.Listener) -> Facts:
    """Rules of authorization once for all chains, and what each port of a workload asks of its callers."""
    if listener.address.socket_address.port_value != names.PROXY_INBOUND_PORT:
        return _rules(listener)
    ports = {chain.filter_chain_match.destination_port.value for chain in listener.filter_chains} - {0}
    facts = {
        Title(rank=2, text=f"port {port or 'of any other number'} accepts"): (_accepted(listener, port or 1),)
        for port in sorted({0, *ports} - {names.PROXY_INBOUND_PORT})
    }
    return {**facts, **_rules(listener)}


def _accepted(listener: listener_pb2.Listener, port: int) -> str:
    found = []
    for tls in (Tls.NONE, Tls.MUTUAL):
        call = Call(
            direction=Direction.INBOUND,
            destination=_NOWHERE,
            port=port,
            tls=tls,
            alpn=("istio-http/1.1", "istio") if tls is Tls.MUTUAL else (),
            principal="spiffe://cluster.local/ns/a/sa/b" if tls is Tls.MUTUAL else "",
        )
        try:
            chain = listeners.chain(listener, call).chain
            ended = chain is not None and chain.HasField("transport_socket")
            if chain is not None and ended == (tls is Tls.MUTUAL):
                found.append(tls.value)
        except UndecidedError as error:
            found.append(str(error))
    return " and ".join(found) or "nothing"


def _rules(listener: listener_pb2.Listener) -> Facts:
    found: dict[Title, tuple[str, ...]] = {}
    for chain in _chains(listener):
        for config in _configs(chain):
            if isinstance(config, jwt_pb2.JwtAuthentication):
                found[Title(rank=1, text="tokens of end users")] = tuple(leaves.lines(config))
        for rules, how in _authorizations(chain):
            action = rbac_pb2.RBAC.Action.Name(rules.action)
            for name, policy in rules.policies.items():
                origin = rbac.origin(name)
                shown = name if origin is None else f"{origin.key} {origin.field}"
                found[Title(rank=1, text=f"authorization {how}{action} by {shown}")] = tuple(leaves.lines(policy))
            if not rules.policies:
                found[Title(rank=1, text=f"authorization {how}{action} without any rule")] = ("holds",)
    return found


def _configs(chain: listener_components_pb2.FilterChain) -> Iterator[object]:
    """The settings of a chain's filters, and of those inside of its connection manager."""
    for each in chain.filters:
        config = held.unpacked(each.typed_config)
        yield config
        if isinstance(config, hcm_pb2.HttpConnectionManager):
            yield from (held.unpacked(one.typed_config) for one in config.http_filters)


def _authorizations(chain: listener_components_pb2.FilterChain) -> Iterator[tuple[rbac_pb2.RBAC, str]]:
    for config in _configs(chain):
        if isinstance(config, http_rbac_pb2.RBAC | tcp_rbac_pb2.RBAC):
            connections = "of connections " if isinstance(config, tcp_rbac_pb2.RBAC) else ""
            if config.HasField("rules"):
                yield config.rules, connections
            if config.HasField("shadow_rules"):
                yield config.shadow_rules, f"{connections}(dry run or provider) "


def _cluster(found: Held, cluster: cluster_pb2.Cluster) -> Facts:
    name = place(cluster.name)
    call = Call(destination="ORIGINAL", port=0)
    settings = Title(rank=4, text=f"connections to {name}")
    endpoints = Title(rank=5, text=f"endpoints of {name}", part_of=settings)
    hosts = upstreams.hosts(found, cluster, call)
    said = () if hosts == () else tuple(forwarding.said(hosts).split(", "))
    silent = ("load_assignment", "eds_cluster_config", "transport_socket", "transport_socket_matches")
    lines = (*_sockets(cluster), *leaves.lines(cluster, *silent))
    return {settings: lines, endpoints: said}


def _sockets(cluster: cluster_pb2.Cluster) -> Iterator[str]:
    for each in cluster.transport_socket_matches:
        who = " ".join(f"with {line}" for line in leaves.lines(each.match)) or "of any other kind"
        yield f"to endpoints {who}: {_socket(each.transport_socket)}"
    if cluster.HasField("transport_socket"):
        yield f"to endpoints: {_socket(cluster.transport_socket)}"
    elif not cluster.transport_socket_matches:
        yield "to endpoints: plain text"

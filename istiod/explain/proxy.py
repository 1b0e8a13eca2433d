"""One proxy and one call, from listener to endpoints: the way in to this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.sni_cluster.v3 import sni_cluster_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from istiod.envoy import blame
from istiod.explain import forwarding, listeners, rbac, requests
from istiod.explain.answer import Answer, Stage
from istiod.explain.call import Call, Tls, UndecidedError
from istiod.explain.held import Held
from istiod.explain.trail import Trail

_PASSIVE: Final = ("mongo_proxy", "sni_dynamic_forward_proxy", "connection_limit")
_ALL = 100.0


def explain(found: Held, call: Call) -> Answer:
    """What a proxy does with a call."""
    trail = Trail()
    try:
        return _walk(found, call, trail)
    except UndecidedError as error:
        return trail.undecided(str(error))


def _walk(found: Held, call: Call, trail: Trail) -> Answer:
    listener, why = listeners.choose(found, call)
    if listener is None:
        return trail.closed(f"nobody listens at {call.destination}:{call.port}")
    trail.facts["listener"] = listener.name
    trail.note(Stage.LISTENER, listener.name, why)
    choice = listeners.chain(listener, call)
    if choice.chain is None:
        trail.note(Stage.CHAIN, "", "none fits", lost=choice.lost)
        return trail.closed("no filter chain fits")
    chain = choice.chain
    trail.facts["chain"] = chain.name
    origin = blame.origin_of(chain.metadata)
    trail.note(Stage.CHAIN, chain.name or "default", choice.why, origin=origin, lost=choice.lost)
    shake = listeners.handshake(chain, call)
    trail.note(Stage.TLS, "", shake.failure or shake.text, origin=origin if shake.text.startswith("mTLS") else None)
    if shake.failure:
        return trail.closed(shake.failure)
    return _filtered(chain, found, call, trail)


def _filtered(chain: listener_components_pb2.FilterChain, found: Held, call: Call, trail: Trail) -> Answer:
    ended = chain.HasField("transport_socket")
    by_name = False
    for name, config in listeners.filters(chain):
        if isinstance(config, hcm_pb2.HttpConnectionManager):
            if call.tls is not Tls.NONE and not ended:
                return trail.closed("TLS comes to an HTTP filter chain that does not end it")
            return requests.manage(config, found, call, trail)
        if isinstance(config, tcp_proxy_pb2.TcpProxy):
            clusters = [(call.sni, _ALL)] if by_name else list(_clusters(config))
            return forwarding.connection(found, clusters, call, trail)
        answer = _asked(name, config, call, trail, ended=ended)
        if answer is not None:
            return answer
        by_name = by_name or isinstance(config, sni_cluster_pb2.SniCluster)
    return trail.undecided("the filter chain ends without a proxy")


def _asked(name: str, config: object, call: Call, trail: Trail, *, ended: bool) -> Answer | None:
    """A network filter before the last one; an answer where it ends the connection."""
    if isinstance(config, rbac_pb2.RBAC):
        return _rbac(config, call, trail, secured=ended)
    if isinstance(config, ext_authz_pb2.ExtAuthz):
        trail.doubt(f"whether {config.grpc_service.envoy_grpc.cluster_name}, which may be asked, lets it pass")
    elif not isinstance(config, sni_cluster_pb2.SniCluster) and not name.endswith(_PASSIVE):
        trail.doubt(f"what filter {name} does with the connection is not known")
    return None


def _rbac(config: rbac_pb2.RBAC, call: Call, trail: Trail, *, secured: bool) -> Answer | None:
    if config.HasField("matcher"):
        raise UndecidedError("an RBAC filter with a matcher")
    if not config.HasField("rules"):
        return None
    decision = rbac.decide(config.rules, call, {}, requests=False, secured=secured)
    answer = requests.note_decision(decision, config.rules.action, trail)
    return None if answer is None else trail.closed(answer.detail)


def _clusters(config: tcp_proxy_pb2.TcpProxy) -> Iterator[tuple[str, float]]:
    if config.WhichOneof("cluster_specifier") == "cluster":
        yield config.cluster, _ALL
        return
    several = config.weighted_clusters.clusters
    total = sum(each.weight for each in several)
    yield from ((each.name, _ALL * each.weight / total) for each in several if each.weight)

"""What a route does: forward, redirect or answer (features rows F6-F12, F14, G5)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.type.matcher.v3 import regex_pb2

from istiod.envoy import headers, wellknown
from istiod.envoy.filters import alpn, peer
from istiod.mesh.policy import HashPolicy
from istiod.mesh.route import DirectResponse, Mirror, Redirect, Retry, Rewrite, Route, WeightedDestination

_ZERO = wellknown.duration(timedelta(0))
_HOST_ATTEMPTS = 5
_INBOUND_RETRIES = 2
_CODES = {
    301: route_components_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_components_pb2.RedirectAction.FOUND,
    303: route_components_pb2.RedirectAction.SEE_OTHER,
    307: route_components_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_components_pb2.RedirectAction.PERMANENT_REDIRECT,
}
_PREVIOUS_HOSTS = route_components_pb2.RetryPolicy.RetryHostPredicate(
    name="envoy.retry_host_predicates.previous_hosts",
    typed_config=wellknown.packed(previous_hosts_pb2.PreviousHostsPredicate()),
)
_PREVIOUS_PRIORITIES = route_components_pb2.RetryPolicy.RetryPriority(
    name="envoy.retry_priorities.previous_priorities",
    typed_config=wellknown.packed(previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2)),
)
_INBOUND = route_components_pb2.RouteAction(
    timeout=_ZERO,
    max_stream_duration=route_components_pb2.RouteAction.MaxStreamDuration(
        max_stream_duration=_ZERO, grpc_timeout_header_max=_ZERO
    ),
    retry_policy=route_components_pb2.RetryPolicy(
        retry_on="reset-before-request", num_retries=wellknown.uint32(_INBOUND_RETRIES)
    ),
)


def forward(route: Route) -> route_components_pb2.RouteAction:
    """Send the request to the route's destinations."""
    if route.inbound:
        found = route_components_pb2.RouteAction()
        found.CopyFrom(_INBOUND)
        if route.retry is not None:
            found.ClearField("retry_policy")
    else:
        timeout = wellknown.duration(route.timeout or timedelta(0))
        found = route_components_pb2.RouteAction(timeout=timeout, max_grpc_timeout=timeout)
    if route.retry is not None and route.retry.attempts:
        found.retry_policy.CopyFrom(_retry(route.retry))
    _choose(found, route)
    _rewrite(found, route)
    found.hash_policy.extend(_hashes(route.destinations))
    found.request_mirror_policies.extend(_mirror(mirror) for mirror in route.mirrors if mirror.percent > 0)
    return found


def redirect(source: Redirect) -> route_components_pb2.RedirectAction:
    """Answer with a redirect. Istio's mesh has already turned ``derivePort`` into a port where one is needed."""
    found = route_components_pb2.RedirectAction(
        host_redirect=source.authority,
        port_redirect=source.port or 0,
        response_code=_CODES.get(source.code, route_components_pb2.RedirectAction.MOVED_PERMANENTLY),
    )
    if source.scheme:
        found.scheme_redirect = source.scheme
    if source.prefix is not None:
        found.prefix_rewrite = source.prefix
    elif source.path:
        found.path_redirect = source.path
    return found


def direct_response(source: DirectResponse) -> route_components_pb2.DirectResponseAction:
    """Answer from the proxy."""
    body = base_pb2.DataSource(inline_bytes=source.body) if source.body else None
    return route_components_pb2.DirectResponseAction(status=source.status, body=body)


def _choose(found: route_components_pb2.RouteAction, route: Route) -> None:
    if len(route.destinations) == 1:
        found.cluster = route.destinations[0].destination.cluster
        return
    on = needed(route.destinations)
    found.weighted_clusters.clusters.extend(_weight(weighted, on) for weighted in route.destinations)
    for weighted, made in zip(route.destinations, found.weighted_clusters.clusters, strict=True):
        if route.at_gateway and alpn.NAME in on:
            made.typed_per_filter_config.pop(alpn.NAME, None)
            if weighted.destination.mesh_tls:
                made.typed_per_filter_config[alpn.NAME].CopyFrom(alpn.OFFERING)


def needed(destinations: Iterable[WeightedDestination]) -> frozenset[str]:
    """Filters that act for one of the destinations: any other is off."""
    found = set()
    for weighted in destinations:
        found |= {alpn.NAME} if weighted.destination.mesh_tls else set()
        found |= {peer.NAME} if weighted.destination.in_mesh else set()
    return frozenset(found)


def _weight(weighted: WeightedDestination, on: frozenset[str]) -> route_components_pb2.WeightedCluster.ClusterWeight:
    found = route_components_pb2.WeightedCluster.ClusterWeight(
        name=weighted.destination.cluster, weight=wellknown.uint32(weighted.weight)
    )
    headers.apply(found, weighted.headers)
    if authority := headers.authority(weighted.headers):
        found.host_rewrite_literal = authority
    for name in on - needed((weighted,)):
        found.typed_per_filter_config[name].CopyFrom(alpn.DISABLED)
    return found


def _rewrite(found: route_components_pb2.RouteAction, route: Route) -> None:
    rewrite = route.rewrite or Rewrite()
    if rewrite.regex is not None:
        pattern, substitution = rewrite.regex
        found.regex_rewrite.pattern.CopyFrom(regex_pb2.RegexMatcher(regex=pattern))
        found.regex_rewrite.substitution = substitution
    else:
        # Envoy replaces what the route matched: all of it for exact and regular-expression matches
        found.prefix_rewrite = rewrite.path or rewrite.prefix or ""
    if authority := rewrite.authority or _authority(route):
        found.host_rewrite_literal = authority


def _authority(route: Route) -> str:
    own = headers.authority(route.headers)
    if own or len(route.destinations) != 1:
        return own
    return headers.authority(route.destinations[0].headers)


@lru_cache(maxsize=1024)
def _retry(source: Retry) -> route_components_pb2.RetryPolicy:
    found = route_components_pb2.RetryPolicy(
        retry_on=source.retry_on,
        num_retries=wellknown.uint32(source.attempts),
        per_try_timeout=wellknown.optional_duration(source.per_try_timeout),
        retriable_status_codes=source.status_codes,
        host_selection_retry_max_attempts=_HOST_ATTEMPTS,
    )
    if source.ignore_previous_hosts:
        found.retry_host_predicate.append(_PREVIOUS_HOSTS)
    if source.remote_localities:
        found.retry_priority.CopyFrom(_PREVIOUS_PRIORITIES)
    if source.backoff is not None:
        found.retry_back_off.base_interval.CopyFrom(wellknown.duration(source.backoff))
    return found


def _hashes(destinations: tuple[WeightedDestination, ...]) -> list[route_components_pb2.RouteAction.HashPolicy]:
    policies = (weighted.destination.hash_policy for weighted in destinations)
    return [_hash(policy) for policy in dict.fromkeys(policies) if policy is not None]


def _hash(policy: HashPolicy) -> route_components_pb2.RouteAction.HashPolicy:
    found = route_components_pb2.RouteAction.HashPolicy()
    if policy.header:
        found.header.header_name = policy.header
    elif policy.query_parameter:
        found.query_parameter.name = policy.query_parameter
    elif policy.cookie is not None:
        cookie = policy.cookie
        found.cookie.name, found.cookie.path = cookie.name, cookie.path
        if cookie.ttl is not None:
            found.cookie.ttl.CopyFrom(wellknown.duration(cookie.ttl))
        for name, value in cookie.attributes:
            found.cookie.attributes.add(name=name, value=value)
    else:
        found.connection_properties.source_ip = policy.source_ip
    return found


def _mirror(mirror: Mirror) -> route_components_pb2.RouteAction.RequestMirrorPolicy:
    return route_components_pb2.RouteAction.RequestMirrorPolicy(
        cluster=mirror.destination.cluster,
        runtime_fraction=base_pb2.RuntimeFractionalPercent(default_value=wellknown.fraction(mirror.percent)),
        trace_sampled=wellknown.boolean(value=False),
    )

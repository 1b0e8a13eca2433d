"""Where a request or connection goes on: clusters with their shares, and the call as each of them gets it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from envoy.config.route.v3 import route_components_pb2

from istiod.explain import routing, upstreams
from istiod.explain.answer import Answer, Change, End, Host, Stage, Target
from istiod.explain.call import Call, UndecidedError
from istiod.explain.held import Held
from istiod.explain.trail import Trail

ALPN: Final = "istio.alpn"
"""The filter that offers protocols anew in mTLS handshakes (filters/alpn.py)."""
_SWITCH: Final = route_components_pb2.FilterConfig.DESCRIPTOR
_UNAVAILABLE = 503
_OFFERS: Final = {False: ("istio-http/1.1", "istio"), True: ("istio-h2", "istio")}
"""What filters/alpn.py offers, by whether the request is of HTTP/2."""
_ALL = 100.0
_PARTS: Final = 4
"""Of a cluster's name: direction, port, subset, host."""
_TIMEOUT = 15.0
"""Seconds that a route gives which says nothing (v3 API: RouteAction.timeout)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """A cluster, its part of the calls in percent, the call as it is sent there, and what becomes of the response."""

    cluster: str
    percent: float
    call: Call
    changes: tuple[Change, ...] = ()


def request(found: Held, one: route_components_pb2.Route, call: Call, trail: Trail, *, offers: bool) -> Answer:
    """A request on a route that forwards. ``offers``: mTLS handshakes say what the client speaks."""
    to = one.route
    call = replace(call, alpn=())
    call = _offered(call, one) if offers else call
    after = replace(call, path=routing.rewritten(call.path, one.match, to), authority=_authority(to, call))
    if (after.path, after.authority) != (call.path, call.authority):
        trail.note(Stage.REQUEST, "", f"goes on as {after.authority}{after.path}")
    shares = list(_shares(one, after, offers=offers))
    mirrors = tuple(each.cluster for each in to.request_mirror_policies)
    for each in to.request_mirror_policies:
        part = routing.percent(each.runtime_fraction.default_value) if each.HasField("runtime_fraction") else _ALL
        trail.note(Stage.REQUEST, each.cluster, f"gets a copy of {part:g}% of the requests")
    sent = _sent(found, shares, trail, http=True)
    return replace(sent, mirrors=mirrors, timeout=_timeout(to), retries=_retries(to))


def _timeout(to: route_components_pb2.RouteAction) -> float:
    return to.timeout.ToTimedelta().total_seconds() if to.HasField("timeout") else _TIMEOUT


def _retries(to: route_components_pb2.RouteAction) -> int:
    policy = to.retry_policy
    if not policy.retry_on:
        return 0
    return policy.num_retries.value if policy.HasField("num_retries") else 1


def connection(found: Held, clusters: Iterable[tuple[str, float]], call: Call, trail: Trail) -> Answer:
    """A connection that is passed on."""
    shares = [_Share(cluster=name, percent=percent, call=call) for name, percent in clusters]
    return _sent(found, shares, trail, http=False)


def _authority(to: route_components_pb2.RouteAction, call: Call) -> str:
    kind = to.WhichOneof("host_rewrite_specifier")
    if kind is None:
        return call.authority
    if kind == "host_rewrite_literal":
        return to.host_rewrite_literal
    raise UndecidedError(f"a host rewrite of kind {kind}")


def _offered(call: Call, said: Any) -> Call:
    """The call with what a route, or a share of one, has offered; as it is where that says nothing of it."""
    if ALPN not in said.typed_per_filter_config:
        return call
    config = said.typed_per_filter_config[ALPN]
    off = config.Is(_SWITCH) and route_components_pb2.FilterConfig.FromString(config.value).disabled
    return replace(call, alpn=() if off else _OFFERS[call.http2])


def _shares(one: route_components_pb2.Route, call: Call, *, offers: bool) -> Iterator[_Share]:
    to, kind = one.route, one.route.WhichOneof("cluster_specifier")
    if kind == "cluster":
        sent = routing.changed(call, one)
        yield _Share(cluster=to.cluster, percent=_ALL, call=sent, changes=routing.response(one))
    elif kind == "weighted_clusters":
        several = to.weighted_clusters.clusters
        total = sum(each.weight.value for each in several)
        for each in several:
            if each.weight.value:
                sent = routing.changed(routing.changed(call, each), one)  # in this order: see v3 API, ClusterWeight
                sent = _offered(sent, each) if offers else sent
                host = each.host_rewrite_literal or sent.authority
                yield _Share(
                    cluster=each.name,
                    percent=_ALL * each.weight.value / total,
                    call=replace(sent, authority=host),
                    changes=routing.response(each, one),
                )
    else:
        raise UndecidedError(f"a route to a cluster by {kind}")


def _sent(found: Held, shares: list[_Share], trail: Trail, *, http: bool) -> Answer:
    targets = tuple(_target(found, each, trail) for each in shares)
    if not any(target.hosts or target.hosts is None for target in targets):
        absent = next((each.cluster for each in shares if each.cluster not in found.clusters), None)
        reason = "no healthy upstream" if absent is None else _absent(absent)
        ended = trail.answered(_UNAVAILABLE, reason) if http else trail.closed(reason)
        return replace(ended, targets=targets)
    return replace(trail.closed(""), end=End.FORWARD, targets=targets)


def _target(found: Held, part: _Share, trail: Trail) -> Target:
    name, share, call = part.cluster, part.percent, part.call
    cluster = found.clusters.get(name)
    if cluster is None:
        trail.note(Stage.CLUSTER, name, f"{share:g}%: {_absent(name)}")
        return Target(cluster=name, share=share, hosts=(), call=call)
    hosts = upstreams.hosts(found, cluster, call)
    origin = upstreams.origin(cluster)
    trail.note(Stage.CLUSTER, name, f"{share:g}% of the requests" if call.http else f"{share:g}%", origin=origin)
    trail.note(Stage.ENDPOINTS, name, said(hosts))
    call = replace(call, http2=upstreams.speaks_http2(cluster, call))
    return Target(cluster=name, share=share, hosts=hosts, origin=origin, call=call, changes=part.changes)


def _absent(name: str) -> str:
    """Why a proxy has no cluster of a name, as far as the name says it."""
    parts = name.split("|")
    if len(parts) != _PARTS:
        return "there is no such cluster"
    _, port, subset, host = parts
    if subset:
        return f"no DestinationRule gives {host} a subset {subset!r} with port {port} that this proxy sees"
    return f"there is no host {host} with port {port} that this proxy sees"


def said(hosts: tuple[Host, ...] | None) -> str:
    """The endpoints of a cluster on one line."""
    if hosts is None:
        return "Envoy looks up the host that the request names"
    if not hosts:
        return "none: requests are answered 503"
    return ", ".join(_host(one) for one in hosts)


def _host(one: Host) -> str:
    more = "" if one.health == "HEALTHY" else f" {one.health.lower()}"
    more += f" priority {one.priority}" if one.priority else ""
    address = f"[{one.address}]" if ":" in one.address else one.address
    return f"{address}:{one.port} {one.share:.3g}% {one.tls}{more}"

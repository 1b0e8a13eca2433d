"""A request in the connection manager: virtual host and route, the filters in order, the route's action.

What a filter of another kind does is not known; it is noted as a doubt and the request goes on as if it did nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from istiod.envoy import blame
from istiod.envoy.filters import peer
from istiod.explain import forwarding, held, matching, rbac, routing, tokens
from istiod.explain.answer import Answer, Stage
from istiod.explain.call import Call, Tls, UndecidedError
from istiod.explain.held import Held
from istiod.explain.matching import Metadata
from istiod.explain.trail import Trail

_PASSIVE: Final = (
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    "envoy.extensions.filters.http.set_filter_state.v3.Config",
    "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",  # what is left of a limit nobody can foresee
)
"""Filters that neither answer requests nor say where they go."""
_NOTING: Final = (peer.NAME, peer.PROTOCOL.name)
"""Ours that only note for metrics who calls; a filter of their types that somebody else adds may do more."""
_RBAC: Final = "envoy.filters.http.rbac"
_FORWARDED: Final = "x-forwarded-for"
_ALL = 100.0
_OK, _MOVED, _NOT_FOUND, _FORBIDDEN = 200, 301, 404, 403
_CODES: Final = (301, 302, 303, 307, 308)


@dataclass(slots=True, eq=False)
class _Request:
    """A request between two filters."""

    call: Call
    found: Held
    table: route_pb2.RouteConfiguration
    host: route_components_pb2.VirtualHost | None
    choice: routing.Found
    held: Metadata
    trail: Trail
    offers: bool = False
    """Whether the protocol is offered anew in mTLS handshakes (filters/alpn.py)."""

    def choose(self) -> None:
        """Look for the route with what is known by now."""
        empty = routing.Found(route=None)
        self.choice = empty if self.host is None else routing.route(self.host, self.call, self.held)

    def leave(self, filter_name: str, values: Metadata) -> None:
        """Dynamic metadata that a filter leaves for those behind it."""
        before = self.held.get(filter_name)
        self.held = {**self.held, filter_name: {**(before if isinstance(before, dict) else {}), **values}}

    def levels(self) -> Iterator[Any]:
        """Who may say something about a filter, the most particular first."""
        yield from (level for level in (self.choice.route, self.host, self.table) if level is not None)


def manage(manager: hcm_pb2.HttpConnectionManager, found: Held, call: Call, trail: Trail) -> Answer:
    """Take a request through a connection manager.

    Raises:
        UndecidedError: something in the configuration is not known, and nothing can be said of what comes after it.
    """
    if not call.http:
        return trail.closed("bytes that are no HTTP come to an HTTP filter chain")
    if manager.WhichOneof("route_specifier") == "rds":
        table = found.routes.get(manager.rds.route_config_name)
    else:
        table = manager.route_config
    trail.facts["table"] = manager.rds.route_config_name or manager.route_config.name
    if table is None:
        return trail.answered(_NOT_FOUND, f"there is no route table {manager.rds.route_config_name}")
    call = _traced(manager, replace(routing.normalized(call, manager), remote=_remote(manager, call)))
    host, domain = routing.host(table, call.authority)
    request = _Request(call, found, table, host, routing.Found(route=None), {}, trail)
    request.offers = forwarding.ALPN in (each.name for each in manager.http_filters)
    request.choose()
    for each in manager.http_filters:
        answer = _filtered(each, request)
        if answer is not None:
            return answer
    return _routed(request, domain)


def _remote(manager: hcm_pb2.HttpConnectionManager, call: Call) -> str:
    """The client's address as Envoy takes it from x-forwarded-for, by how many proxies are trusted."""
    said = [one.strip() for one in (call.headers.get(_FORWARDED) or "").split(",") if one.strip()]
    own, hops = manager.use_remote_address.value, manager.xff_num_trusted_hops
    index = hops if own else hops + 1
    if not index or len(said) < index:
        return call.source
    try:
        return str(ipaddress.ip_address(said[-index]))
    except ValueError:
        return call.source


def _traced(manager: hcm_pb2.HttpConnectionManager, call: Call) -> Call:
    """The request with the headers that the connection manager itself sets."""
    headers = dict(call.headers)
    if manager.use_remote_address.value and not manager.skip_xff_append:
        headers[_FORWARDED] = ",".join(filter(None, (headers.get(_FORWARDED), call.source)))
    made = frozenset({"x-request-id"}) - headers.keys()
    return replace(call, headers=headers, unknown=call.unknown | made)


def _filtered(each: hcm_pb2.HttpFilter, request: _Request) -> Answer | None:
    """One filter; an answer where it ends the request."""
    config, own = held.unpacked(each.typed_config), _own(each.name, request)
    off = own is not None and own.DESCRIPTOR.full_name == "envoy.config.route.v3.FilterConfig"
    if (off and getattr(own, "disabled", False)) or (each.disabled and own is None):
        return None
    kind = "" if config is None else config.DESCRIPTOR.full_name
    if kind in _PASSIVE or each.name in _NOTING:
        return None
    handle = _FILTERS.get(kind)
    if handle is None or off:
        what = kind or each.typed_config.type_url.rpartition("/")[2] or each.name
        request.trail.doubt(f"what filter {each.name} ({what}) does with the request is not known")
        return None
    return handle(config, own, request)


def _own(name: str, request: _Request) -> Message | None:
    """What the route, the virtual host or the table says of a filter."""
    for level in request.levels():
        if name in level.typed_per_filter_config:
            packed: any_pb2.Any = level.typed_per_filter_config[name]
            return held.unpacked(packed)
    return None


def _token(config: jwt_pb2.JwtAuthentication, _: Message | None, request: _Request) -> Answer | None:
    verdict = tokens.check(config, request.call)
    request.trail.note(Stage.AUTHENTICATION, "token", verdict.text)
    if verdict.code:
        return request.trail.answered(verdict.code, verdict.text)
    for name, values in verdict.metadata().items():
        if isinstance(values, dict):
            request.leave(name, values)
    if verdict.takes:
        left = {name: value for name, value in request.call.headers.items() if name not in verdict.takes}
        request.call = replace(request.call, headers=left, claims=None)
    if verdict.clears:
        request.choose()
    return None


def _rbac(config: http_rbac_pb2.RBAC, own: Message | None, request: _Request) -> Answer | None:
    if own is not None:
        raise UndecidedError("a route with RBAC rules of its own")
    if config.HasField("matcher") or config.HasField("shadow_matcher"):
        raise UndecidedError("an RBAC filter with a matcher")
    if config.HasField("shadow_rules"):
        _shadowed(config, request)
    if not config.HasField("rules"):
        return None
    decision = rbac.decide(config.rules, request.call, request.held, requests=True)
    return note_decision(decision, config.rules.action, request.trail)


def _shadowed(config: http_rbac_pb2.RBAC, request: _Request) -> None:
    """What rules would do that do not decide: those of a provider to ask, or of a dry run."""
    decision = rbac.decide(config.shadow_rules, request.call, request.held, requests=True)
    prefix = config.shadow_rules_stat_prefix
    left = {f"{prefix}shadow_engine_result": "allowed" if decision.allowed else "denied"}
    if decision.policy:
        left[f"{prefix}shadow_effective_policy_id"] = decision.policy
    request.leave(_RBAC, left)
    if "dry_run" in prefix and config.shadow_rules.policies:
        said = "would let it pass" if decision.allowed else "would refuse it"
        request.trail.note(
            Stage.AUTHORIZATION, decision.policy or "dry run", f"dry run: {said}", origin=rbac.origin(decision.policy)
        )


def note_decision(decision: rbac.Decision, action: rbac_pb2.RBAC.Action, trail: Trail) -> Answer | None:
    """A step of what rules said; the answer where they refuse."""
    origin = rbac.origin(decision.policy)
    if action == rbac_pb2.RBAC.LOG:
        if decision.policy:
            trail.note(Stage.AUTHORIZATION, decision.policy, "noted (AUDIT)", origin=origin, lost=decision.lost)
        return None
    if decision.allowed:
        text = "allowed by this rule" if decision.policy else "no DENY rule holds"
        trail.note(Stage.AUTHORIZATION, decision.policy or "DENY", text, origin=origin, lost=decision.lost)
        return None
    text = "refused by this rule" if decision.policy else "refused: there are ALLOW rules, and none holds"
    trail.note(Stage.AUTHORIZATION, decision.policy or "ALLOW", text, origin=origin, lost=decision.lost)
    return trail.answered(_FORBIDDEN, text)


def _asked(config: ext_authz_pb2.ExtAuthz, _: Message | None, request: _Request) -> Answer | None:
    if config.HasField("filter_enabled_metadata") and matching.metadata(config.filter_enabled_metadata, request.held):
        return None
    cluster = config.http_service.server_uri.cluster or config.grpc_service.envoy_grpc.cluster_name
    request.trail.note(Stage.AUTHORIZATION, cluster, "is asked and decides")
    request.trail.doubt(f"whether {cluster}, which is asked, lets the request pass")
    return None


def _fault(config: fault_pb2.HTTPFault, own: Message | None, request: _Request) -> Answer | None:
    said = own if isinstance(own, fault_pb2.HTTPFault) else config
    route = request.choice.route
    origin = None if route is None else blame.origin_of(route.metadata)
    if any(matching.header(one, request.call) for one in said.headers):
        return None
    if said.HasField("delay"):
        part = routing.percent(said.delay.percentage)
        seconds = said.delay.fixed_delay.ToTimedelta().total_seconds()
        if part:
            request.trail.note(Stage.FAULT, "delay", f"{part:g}% of the requests wait {seconds:g} s", origin=origin)
    if not said.HasField("abort"):
        return None
    part = routing.percent(said.abort.percentage)
    status, what = _aborted(said)
    if part:
        request.trail.note(Stage.FAULT, "abort", f"{part:g}% of the requests are answered {what}", origin=origin)
    if part >= _ALL:
        return request.trail.answered(status, f"fault injection answers {what}")
    request.trail.aborts = (part, status) if part else None
    return None


def _aborted(said: fault_pb2.HTTPFault) -> tuple[int, str]:
    """HTTP status and name of what an injected fault answers; a gRPC status comes with 200, whoever asks."""
    if said.abort.WhichOneof("error_type") != "grpc_status":
        return said.abort.http_status, str(said.abort.http_status)
    return _OK, f"gRPC status {said.abort.grpc_status}"


def _cors(_: cors_pb2.Cors, own: Message | None, request: _Request) -> Answer | None:
    call = request.call
    origin = call.header("origin") if isinstance(own, cors_pb2.CorsPolicy) else None
    if not isinstance(own, cors_pb2.CorsPolicy) or not origin:
        return None
    fits = any(matching.string(one, origin) for one in own.allow_origin_string_match)
    if call.method != "OPTIONS" or not call.header("access-control-request-method"):
        if fits:
            request.trail.note(Stage.FILTER, "CORS", f"the response says that {origin} may read it")
        return None
    forwards = not own.HasField("forward_not_matching_preflights") or own.forward_not_matching_preflights.value
    if not fits and forwards:
        return None
    text = f"preflight request of {origin}: {'answered' if fits else 'refused'}"
    request.trail.note(Stage.FILTER, "CORS", text)
    return request.trail.answered(_OK, "the proxy answers preflight requests of CORS")


_FILTERS: Final[dict[str, Callable[[Any, Message | None, _Request], Answer | None]]] = {
    jwt_pb2.JwtAuthentication.DESCRIPTOR.full_name: _token,
    http_rbac_pb2.RBAC.DESCRIPTOR.full_name: _rbac,
    ext_authz_pb2.ExtAuthz.DESCRIPTOR.full_name: _asked,
    fault_pb2.HTTPFault.DESCRIPTOR.full_name: _fault,
    cors_pb2.Cors.DESCRIPTOR.full_name: _cors,
}


def _routed(request: _Request, domain: str) -> Answer:
    """What the router does once all filters have let a request pass."""
    trail, host, call = request.trail, request.host, request.call
    if host is None:
        return trail.answered(_NOT_FOUND, f"no virtual host of {request.table.name} is for {call.authority}")
    trail.facts["host"] = host.name
    trail.note(Stage.HOST, host.name, f"{call.authority} is its domain {domain}")
    if host.require_tls == route_components_pb2.VirtualHost.ALL and call.tls is Tls.NONE:
        return trail.answered(_MOVED, "HTTPS is asked for", f"https://{call.authority}{call.path}")
    one = request.choice.route
    if one is None:
        trail.note(Stage.ROUTE, "", "no route fits", lost=request.choice.lost)
        return trail.answered(_NOT_FOUND, "no route fits")
    trail.facts["route"] = one.name
    trail.note(
        Stage.ROUTE, one.name, routing.said(one.match), origin=blame.origin_of(one.metadata), lost=request.choice.lost
    )
    kind = one.WhichOneof("action")
    if kind == "redirect":
        where = routing.location(call, one)
        answer = trail.answered(_CODES[one.redirect.response_code], f"redirect to {where}", where)
        return replace(answer, changes=routing.response(one))
    if kind == "direct_response":
        answer = trail.answered(one.direct_response.status, "the route answers itself")
        return replace(answer, changes=routing.response(one))
    if kind != "route":
        raise UndecidedError(f"a route that does {kind}")
    return forwarding.request(request.found, one, call, trail, offers=request.offers)

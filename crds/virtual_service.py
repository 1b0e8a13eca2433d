"""VirtualService: how requests to a host are routed (features rows F1-F20).

Source: istio.networking virtual_service.proto, all versions, with the deprecated fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import AliasChoices, Field

from crds.duration import Duration
from crds.meta import Bool, Float, Ignored, Int32, Model, Object, Tree, UInt32


class StringMatch(Model):
    """One of exact, prefix, regex (RE2)."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class PortSelector(Model):
    """A port by number (0 is unset)."""

    number: UInt32 = 0


class Destination(Model):
    """A host, a subset of it, a port of it."""

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Model):
    """Headers to set, to add, to remove."""

    set: Mapping[str, str] = Field(default_factory=dict)
    add: Mapping[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()


class Headers(Model):
    """Header operations on the request and the response (F16)."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HTTPMatchRequest(Model):
    """All conditions of one match must hold (F3-F5)."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: Mapping[str, StringMatch] = Field(default_factory=dict)
    without_headers: Mapping[str, StringMatch] = Field(default_factory=dict)
    query_params: Mapping[str, StringMatch] = Field(default_factory=dict)
    port: UInt32 = 0
    source_labels: Mapping[str, str] = Field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    ignore_uri_case: Bool = False
    stat_prefix: str = ""


class HTTPRouteDestination(Model):
    """A weighted destination with its own header operations (F6)."""

    destination: Destination | None = None
    weight: Int32 = 0
    headers: Headers | None = None


class RouteDestination(Model):
    """A weighted destination of TCP or TLS."""

    destination: Destination | None = None
    weight: Int32 = 0


class HTTPRedirect(Model):
    """Answer with a redirect (F7)."""

    uri: str = ""
    prefix_rewrite: str | None = None
    authority: str = ""
    port: UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0


class HTTPBody(Model):
    """The body of a direct response: text, or base64 bytes."""

    string: str | None = None
    bytes: str | None = None


class HTTPDirectResponse(Model):
    """Answer without an upstream (F8)."""

    status: UInt32 = 0
    body: HTTPBody | None = None


class Delegate(Model):
    """Another VirtualService that holds the routes (F9)."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Model):
    """Rewrite the path by RE2 match and substitution."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Model):
    """Rewrite path and authority before forwarding (F10)."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Model):
    """Retry policy of a route (F12). ``retry_remote_localities`` None: Envoy's default."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: Bool | None = None
    retry_ignore_previous_hosts: Bool | None = None
    backoff: Duration | None = None


class Percent(Model):
    """A percentage, 0 to 100."""

    value: Float = 0.0


class Delay(Model):
    """Delay some requests (F13). ``percent`` is the deprecated integer form."""

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class Abort(Model):
    """Abort some requests (F13)."""

    percent: Int32 = 0
    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HTTPFaultInjection(Model):
    """Faults to inject at the client's side."""

    delay: Delay | None = None
    abort: Abort | None = None


class HTTPMirrorPolicy(Model):
    """One mirror of the traffic (F14)."""

    destination: Destination | None = None
    percentage: Percent | None = None


class CorsPolicy(Model):
    """Cross-origin policy (F15). ``allow_origin`` is the deprecated exact list."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: Bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HTTPRoute(Model):
    """One HTTP rule: conditions and what then happens (F2)."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    # The one field that Istio's definition has in both spellings, so that an API server keeps either.
    mirror_percent: UInt32 | None = Field(
        default=None, validation_alias=AliasChoices("mirrorPercent", "mirror_percent")
    )
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None
    websocket_upgrade: Bool | None = None
    append_headers: Mapping[str, str] = Field(default_factory=dict)
    remove_response_headers: Tree = Field(default_factory=dict)


class TLSMatchAttributes(Model):
    """Conditions on a TLS connection (F17)."""

    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: Mapping[str, str] = Field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()


class TLSRoute(Model):
    """One rule for TLS that is passed through."""

    match: tuple[TLSMatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class L4MatchAttributes(Model):
    """Conditions on a TCP connection (F18)."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: Mapping[str, str] = Field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()


class TCPRoute(Model):
    """One TCP rule."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Model):
    """The rules for some hosts."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Object):
    """networking.istio.io VirtualService."""

    spec: VirtualServiceSpec = VirtualServiceSpec()
    status: Ignored = None

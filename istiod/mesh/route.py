"""Routes: VirtualServices and service defaults, resolved (features rows F1-F18).

Every field that names a host is a Destination, so that nothing downstream resolves hosts again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from istiod.config.origin import Origin
from istiod.mesh.policy import HashPolicy


class MatchKind(Enum):
    """How a string is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    PRESENT = "present"


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatch:
    """A comparison; ``value`` is unused for PRESENT."""

    kind: MatchKind
    value: str = ""
    ignore_case: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """A request header (or pseudo header such as ``:method``) and its comparison."""

    name: str
    match: StringMatch
    invert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMatch:
    """A query parameter and its comparison."""

    name: str
    match: StringMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMatch:
    """A claim of the request's verified token, by the names that lead to it, and its comparison.

    A claim that is a list holds where one of its values does. Without a token there is no claim: only ``invert`` holds.
    """

    path: tuple[str, ...]
    match: StringMatch
    invert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """What a request must be like. ``path`` None is any path (prefix "/"). A PREFIX path is a plain string prefix."""

    path: StringMatch | None = None
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    claims: tuple[ClaimMatch, ...] = ()


ANY = RouteMatch()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOperations:
    """Changes of headers, in Istio's order: remove, set (overwrite), add (append)."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Header changes of request and response."""

    request: HeaderOperations = field(default_factory=HeaderOperations)
    response: HeaderOperations = field(default_factory=HeaderOperations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where to: a cluster by its name, and the host it stands for (for decorators and logs).

    ``mesh_tls`` says that the cluster speaks mesh mTLS with the downstream's protocol, so that its route needs the ALPN
    substitute; it is disabled on routes that have no such destination (DESIGN section 4, row ALPN).

    ``in_mesh``: it may speak mesh mTLS at all, so that its server may be told who calls.

    ``known`` False: no service of the scope has such a port or subset, so the cluster does not exist and Envoy answers
    503 with flag NC, as under Istio. It is no reference: nothing may wait for that cluster.
    """

    cluster: str
    host: str
    port: int
    subset: str = ""
    mesh_tls: bool = False
    in_mesh: bool = False
    hash_policy: HashPolicy | None = None
    known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedDestination:
    """A share of the traffic, and header changes for it alone; one that sets ``host`` rewrites the authority."""

    destination: Destination
    weight: int
    headers: Headers = field(default_factory=Headers)


class RedirectPort(Enum):
    """Where a redirect's port comes from when no number is given."""

    PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    REQUEST = "FROM_REQUEST_PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answer with a redirect. "" and None mean: as in the request."""

    path: str = ""
    prefix: str | None = None
    authority: str = ""
    port: int | None = None
    derive_port: RedirectPort | None = None
    scheme: str = ""
    code: int = 301


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponse:
    """Answer from the proxy."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Change path or authority on the way. ``prefix`` replaces the matched prefix, ``path`` the whole (exact match)."""

    prefix: str | None = None
    path: str | None = None
    regex: tuple[str, str] | None = None
    authority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Retries. ``attempts`` 0 switches them off. ``retry_on`` is Envoy's comma list; status codes stand apart."""

    attempts: int
    retry_on: str
    status_codes: tuple[int, ...] = ()
    per_try_timeout: timedelta | None = None
    remote_localities: bool = False
    ignore_previous_hosts: bool = True
    backoff: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Hold ``percent`` (0-100) of the requests for a fixed time."""

    fixed: timedelta
    percent: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Fail ``percent`` (0-100) of the requests with an HTTP or a gRPC status (one of both is set).

    None is nothing said: Istio sends no share, and Envoy fails none.
    """

    percent: float | None = 100.0
    http_status: int | None = None
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Injected faults."""

    delay: Delay | None = None
    abort: Abort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Copy ``percent`` (0-100) of the requests there."""

    destination: Destination
    percent: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """CORS policy. ``forward_unmatched_preflights`` None leaves Envoy's default."""

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: timedelta | None = None
    allow_credentials: bool | None = None
    forward_unmatched_preflights: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One rule, for one match: exactly one of ``destinations``, ``redirect``, ``direct_response`` is set.

    ``timeout`` None means none (0 s to Envoy). ``retry`` None means no retry policy at all (inbound has its own).
    ``operation`` is the decorator that names spans (``host:port/path*``).
    """

    name: str
    match: RouteMatch
    origin: Origin | None
    destinations: tuple[WeightedDestination, ...] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    rewrite: Rewrite | None = None
    timeout: timedelta | None = None
    retry: Retry | None = None
    fault: Fault | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    headers: Headers = field(default_factory=Headers)
    operation: str = ""
    stat_prefix: str = ""
    """Where statistics of its own stand: ``vhost.HOST.route.PREFIX``; "" for none."""
    inbound: bool = False
    """An inbound route: Istio's max_stream_duration; its reset-before-request retry where ``retry`` is None."""
    at_gateway: bool = False
    """A gateway's: it may be chosen for a request that had another route, or none, before its token was looked at."""

    @property
    def leads(self) -> tuple[Destination, ...]:
        """Where its requests and their copies go."""
        return (*(one.destination for one in self.destinations), *(one.destination for one in self.mirrors))


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """Routes of some domains. Domains are given out over the whole table: no domain stands twice."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    require_tls: bool = False
    """Redirect plaintext requests to https (Gateway tls.httpsRedirect)."""
    include_attempt_count: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """One RouteConfiguration: its RDS name (``9080``, ``http.8080``, ``host:port`` for sniffed listeners) and hosts."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    ignore_port: bool = True

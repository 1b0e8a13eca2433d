"""Which requests and which clients a rule of a VirtualService speaks for (features rows F3-F5).

What a request must be like becomes a RouteMatch for Envoy. Who asks (gateway, source labels, source namespace, port)
is decided here, once per scope, so that tables hold only rules that can apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crds import path, virtual_service
from istiod.mesh import string_matches, token_claims
from istiod.mesh.route import ANY, ClaimMatch, HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch

MESH: Final = "mesh"
"""The name that stands for all sidecars where a list of gateways is asked for."""


def selector_id(labels: Mapping[str, str]) -> str:
    """The name of a source label selector in ScopeKey.matched; "" for an empty one, which everybody matches."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def resolve_gateway(name: str, namespace: str) -> str:
    """``namespace/name`` of a gateway as an object in ``namespace`` means it; ``mesh`` stands as it is.

    Short names, ``./name`` and the old ``name.namespace`` are understood (Istio: resolveGatewayName).
    """
    if name == MESH:
        return name
    home, slash, short = name.partition("/")
    if slash:
        return f"{namespace if home == '.' else home}/{short}"
    short, dot, rest = name.partition(".")
    return f"{rest.partition('.')[0]}/{short}" if dot else f"{namespace}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """For whom rules are decided: a class of proxies.

    ``gateways`` is {"mesh"} for sidecars, else the gateway in question. ``selectors`` are the ids of the source label
    selectors that hold.
    """

    namespace: str
    gateways: frozenset[str] = frozenset({MESH})
    selectors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which clients a match is for; empty parts do not look. ``port`` is the port that the request was sent to."""

    gateways: tuple[str, ...] = ()
    selector: str = ""
    namespace: str = ""
    port: int = 0

    def holds(self, client: Client, port: int) -> bool:
        """Whether it is for this client and port. Named gateways make labels and namespace moot (as in Istio)."""
        if self.port and self.port != port:
            return False
        if self.gateways:
            return not client.gateways.isdisjoint(self.gateways)
        return self._meets(client)

    def holds_connection(self, client: Client, port: int) -> bool:
        """Whether a TLS or TCP rule is for this client and port.

        Unlike with HTTP, sidecars have to meet all of it. At a gateway labels and namespace are moot (Istio: matchTCP,
        l4SingleMatch).
        """
        if self.port and self.port != port:
            return False
        if self.gateways and client.gateways.isdisjoint(self.gateways):
            return False
        return MESH not in client.gateways or self._meets(client)

    def _meets(self, client: Client) -> bool:
        return (not self.selector or self.selector in client.selectors) and self.namespace in ("", client.namespace)


EVERYBODY: Final = Source()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One match of a rule: the request, and the clients it is for. ``stat_prefix`` names statistics of its own."""

    match: RouteMatch = ANY
    source: Source = EVERYBODY
    name: str = ""
    stat_prefix: str = ""

    @property
    def catches_all(self) -> bool:
        """Whether every request matches, so that no later rule is ever reached."""
        path = self.match.path
        everything = path is None or (path.kind is MatchKind.PREFIX and path.value == "/")
        return everything and not (self.match.headers or self.match.query or self.match.claims)


def condition(said: virtual_service.HTTPMatchRequest, namespace: str) -> Condition:
    """The condition of one ``match`` entry of a VirtualService in ``namespace``."""
    return Condition(
        match=RouteMatch(path=_path(said), headers=_headers(said), query=_query(said), claims=tuple(_claims(said))),
        source=Source(
            gateways=tuple(resolve_gateway(name, namespace) for name in said.gateways),
            selector=selector_id(said.source_labels),
            namespace=said.source_namespace,
            port=said.port,
        ),
        name=said.name,
        stat_prefix=said.stat_prefix,
    )


def malformed_claims(said: virtual_service.HTTPMatchRequest) -> tuple[str, ...]:
    """Paths below a match of conditions on claims that name none: no token can have them."""
    fields = (("headers", said.headers), ("withoutHeaders", said.without_headers))
    return tuple(
        path.child(field, name)
        for field, names in fields
        for name in names
        if token_claims.is_claim(name) and not token_claims.path(name)
    )


def can_hold(said: virtual_service.HTTPMatchRequest) -> bool:
    """Whether any request can match: none does that has to have a claim without a name."""
    return not any(token_claims.is_claim(name) and not token_claims.path(name) for name in said.headers)


def _path(said: virtual_service.HTTPMatchRequest) -> StringMatch | None:
    found = string_matches.convert(said.uri, ignore_case=said.ignore_uri_case) if said.uri else None
    return found if found is not None and found.value else None


def _headers(said: virtual_service.HTTPMatchRequest) -> tuple[HeaderMatch, ...]:
    pseudo = ((":authority", said.authority), (":method", said.method), (":scheme", said.scheme))
    wanted = [(name, value, False) for name, value in pseudo if value is not None]
    wanted += [(name, value, False) for name, value in sorted(said.headers.items())]
    wanted += [(name, value, True) for name, value in sorted(said.without_headers.items())]
    return tuple(
        HeaderMatch(name=name, match=string_matches.convert_value(value), invert=invert)
        for name, value, invert in wanted
        if not token_claims.is_claim(name)
    )


def _claims(said: virtual_service.HTTPMatchRequest) -> Iterator[ClaimMatch]:
    for names, invert in ((said.headers, False), (said.without_headers, True)):
        for name, value in sorted(names.items()):
            if token_claims.is_claim(name) and (found := token_claims.path(name)):
                yield ClaimMatch(path=found, match=string_matches.convert_value(value), invert=invert)


def _query(said: virtual_service.HTTPMatchRequest) -> tuple[QueryMatch, ...]:
    return tuple(
        QueryMatch(name=name, match=string_matches.convert_value(value))
        for name, value in sorted(said.query_params.items())
    )

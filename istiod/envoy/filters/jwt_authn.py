"""Tokens of end users: which are good, and what is told of them (features row N12; Istio: convertToEnvoyJwtConfig).

The claims of a good token are left in dynamic metadata, for routes by claims and for authorization.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from envoy.config.core.v3 import base_pb2, http_uri_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import empty_pb2

from istiod.envoy import wellknown
from istiod.mesh import jwt
from istiod.mesh.jwt import Provider, Providers

NAME = wellknown.JWT_AUTHN
_CACHED = wellknown.duration(timedelta(minutes=5))
_Requirement = config_pb2.JwtRequirement


def http_filters(providers: Providers, *, clear_route_cache: bool) -> Iterator[hcm_pb2.HttpFilter]:
    """The filter; none where there are no providers.

    Args:
        providers: whose tokens are looked at.
        clear_route_cache: choose the route anew once a token was good: at gateways, where routes ask for claims.
    """
    if providers:
        found = message(providers, clear_route_cache=clear_route_cache)
        yield hcm_pb2.HttpFilter(name=NAME, typed_config=wellknown.packed(found))


def message(providers: Providers, *, clear_route_cache: bool = False) -> config_pb2.JwtAuthentication:
    """The filter's configuration: a token that is there must be good, and a preflight request of CORS has none."""
    named = {f"origins-{index}": one for index, one in enumerate(providers)}
    rule = config_pb2.RequirementRule(
        match=route_components_pb2.RouteMatch(prefix="/"), requires=_requirement(tuple(named.items()))
    )
    return config_pb2.JwtAuthentication(
        providers={name: _provider(one, clear_route_cache=clear_route_cache) for name, one in named.items()},
        rules=[rule],
        bypass_cors_preflight=True,
    )


def _requirement(named: tuple[tuple[str, Provider], ...]) -> config_pb2.JwtRequirement:
    """One provider: its token or none. Several: the token of one, or of each its own or none.

    The first alternatives are for providers that look into the same place: there a token is good for one of them only,
    and none of them may refuse it for being another's.
    """
    each = [_own(name, one) for name, one in named]
    if len(each) == 1:
        return each[0]
    by_name = (_Requirement(provider_name=name) for name, _ in named)
    every = _Requirement(requires_all=config_pb2.JwtRequirementAndList(requirements=each))
    return _any((*by_name, every))


def _own(name: str, one: Provider) -> config_pb2.JwtRequirement:
    token = _Requirement(provider_name=name)
    return token if one.required else _any((token, _Requirement(allow_missing=empty_pb2.Empty())))


def _any(requirements: Iterable[config_pb2.JwtRequirement]) -> config_pb2.JwtRequirement:
    return _Requirement(requires_any=config_pb2.JwtRequirementOrList(requirements=requirements))


def _provider(one: Provider, *, clear_route_cache: bool) -> config_pb2.JwtProvider:
    found = config_pb2.JwtProvider(
        issuer=one.issuer,
        audiences=one.audiences,
        forward=one.forward,
        forward_payload_header=one.payload_header,
        payload_in_metadata=jwt.PAYLOAD,
        normalize_payload_in_metadata=config_pb2.JwtProvider.NormalizePayload(
            space_delimited_claims=one.space_delimited
        ),
        from_headers=[config_pb2.JwtHeader(name=name, value_prefix=prefix) for name, prefix in one.headers],
        from_params=one.params,
        from_cookies=one.cookies,
        claim_to_headers=[
            config_pb2.JwtClaimToHeader(header_name=header, claim_name=claim) for header, claim in one.claim_headers
        ],
        clear_route_cache=clear_route_cache,
    )
    if one.remote is None:
        found.local_jwks.CopyFrom(base_pb2.DataSource(inline_string=one.keys))
    else:
        found.remote_jwks.CopyFrom(_remote(one.remote))
    return found


def _remote(remote: jwt.Remote) -> config_pb2.RemoteJwks:
    uri = http_uri_pb2.HttpUri(uri=remote.uri, cluster=remote.cluster, timeout=wellknown.duration(remote.timeout))
    return config_pb2.RemoteJwks(http_uri=uri, cache_duration=_CACHED)

"""Tokens of end users: which requirement of the jwt_authn filter a request meets, and what claims it leaves.

Signatures are checked with the keys that the filter holds. Where Envoy fetches keys itself, nothing is decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

import jwt
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2

from istiod.explain import matching, routing
from istiod.explain.call import Call, UndecidedError
from istiod.explain.matching import Metadata

_SKEW: Final = 60
"""Seconds by which clocks may differ (Envoy's default of clock_skew_seconds)."""
_FILTER: Final = "envoy.filters.http.jwt_authn"


class Status(Enum):
    """What came of a requirement."""

    GOOD = "good"
    MISSED = "there is no token"
    FOREIGN = "the token is of another issuer"
    BAD = "the token is not good"
    AUDIENCE = "the token is for another audience"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a token: ``claims`` by the name under which they are left, ``clears``: the route is chosen anew.

    ``takes`` are the headers whose token is not forwarded (one in the query is forwarded here always).
    """

    status: Status
    text: str = ""
    claims: Mapping[str, object] = field(default_factory=dict)
    clears: bool = False
    takes: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The HTTP status that the filter answers; 0 where the request goes on."""
        return {Status.GOOD: 0, Status.AUDIENCE: 403}.get(self.status, 401)

    def metadata(self) -> Metadata:
        """As the filter's dynamic metadata."""
        return {_FILTER: dict(self.claims)} if self.claims else {}


def check(config: config_pb2.JwtAuthentication, call: Call) -> Verdict:
    """Whether a request may pass the filter.

    Raises:
        UndecidedError: keys are fetched by Envoy, or a requirement is of a kind that is not known.
    """
    asked = call.header("access-control-request-method"), call.header("origin")
    if config.bypass_cors_preflight and call.method == "OPTIONS" and all(asked):
        return Verdict(status=Status.GOOD, text="a preflight request of CORS needs no token")
    for rule in config.rules:
        if not routing.lacks(rule.match, call, {}):
            wanted = config.requirement_map[rule.requirement_name] if rule.requirement_name else rule.requires
            return _met(wanted, config, call)
    return Verdict(status=Status.GOOD, text="no token is asked for")


def _met(wanted: config_pb2.JwtRequirement, config: config_pb2.JwtAuthentication, call: Call) -> Verdict:
    kind = wanted.WhichOneof("requires_type")
    if kind == "provider_name":
        return _of_provider(config.providers[wanted.provider_name], call)
    if kind == "requires_any":
        return _any(wanted.requires_any.requirements, config, call)
    if kind == "requires_all":
        return _all([_met(one, config, call) for one in wanted.requires_all.requirements])
    if kind == "allow_missing":  # alone, its own verdict is that of no provider
        return Verdict(status=Status.MISSED, text=Status.MISSED.value)
    if kind is None:
        return Verdict(status=Status.GOOD, text="no token is asked for")
    raise UndecidedError(f"a token requirement of kind {kind}")


def _any(several: Sequence[config_pb2.JwtRequirement], config: config_pb2.JwtAuthentication, call: Call) -> Verdict:
    """The first that is met; of failures, one of a token that is there tells most (Envoy: AnyVerifierImpl)."""
    optional = any(one.WhichOneof("requires_type") == "allow_missing" for one in several)
    final = Verdict(status=Status.MISSED, text=Status.MISSED.value)
    for one in several:
        if one.WhichOneof("requires_type") == "allow_missing":
            continue
        found = _met(one, config, call)
        if found.status is Status.GOOD:
            return found
        if found.status not in (Status.MISSED, Status.FOREIGN) or final.status is Status.MISSED:
            final = found
    if optional and final.status is Status.MISSED:
        return Verdict(status=Status.GOOD, text="there is no token, and none is needed")
    return final


def _all(several: Sequence[Verdict]) -> Verdict:
    bad = next((one for one in several if one.status is not Status.GOOD), None)
    if bad is not None:
        return bad
    claims = {name: value for one in several for name, value in one.claims.items()}
    return Verdict(
        status=Status.GOOD,
        text="; ".join(dict.fromkeys(one.text for one in several)),
        claims=claims,
        clears=any(one.clears for one in several),
        takes=tuple(name for one in several for name in one.takes),
    )


def _of_provider(provider: config_pb2.JwtProvider, call: Call) -> Verdict:
    """Each token that the provider's places hold has to be good."""
    if call.claims is not None:
        return _taking(_judged(provider, dict(call.claims), call), provider, "authorization")
    found = Verdict(status=Status.MISSED, text=f"there is no token of {provider.issuer}")
    taken: tuple[str, ...] = ()
    for name, token in _tokens(provider, call):
        found = _taking(_verified(provider, token, call), provider, name)
        if found.status is not Status.GOOD:
            return found
        taken += found.takes
    return replace(found, takes=taken)


def _taking(found: Verdict, provider: config_pb2.JwtProvider, header: str) -> Verdict:
    """A verdict that takes the token away with it, unless the provider's tokens are forwarded."""
    takes = bool(header) and found.status is Status.GOOD and not provider.forward
    return replace(found, takes=(header,)) if takes else found


def _tokens(provider: config_pb2.JwtProvider, call: Call) -> Iterator[tuple[str, str]]:
    """The tokens that a request has for a provider, each with its header; "" for those that stand elsewhere."""
    places = [(one.name, one.value_prefix) for one in provider.from_headers]
    params = list(provider.from_params)
    if not (places or params or provider.from_cookies):
        places, params = [("authorization", "Bearer ")], ["access_token"]
    for name, prefix in places:
        value = call.header(name)
        if value is not None and (not prefix or prefix in value):
            yield name, value.partition(prefix)[2].strip() if prefix else value
    given = matching.parameters(call.path)
    yield from (("", given[name]) for name in params if name in given)
    cookies = dict(part.strip().partition("=")[::2] for part in (call.header("cookie") or "").split(";"))
    yield from (("", cookies[name]) for name in provider.from_cookies if name in cookies)


def _verified(provider: config_pb2.JwtProvider, token: str, call: Call) -> Verdict:
    try:
        head, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        return Verdict(status=Status.BAD, text=f"the token is none: {error}")
    judged = _judged(provider, claims, call)
    if judged.status is not Status.GOOD:
        return judged
    if provider.WhichOneof("jwks_source_specifier") != "local_jwks":
        raise UndecidedError(f"Envoy itself fetches the keys of {provider.issuer}")
    if not any(_signed(token, key) for key in _keys(provider.local_jwks.inline_string, head.get("kid"))):
        return Verdict(status=Status.BAD, text=f"no key of {provider.issuer} has signed the token")
    return judged


def _keys(text: str, kid: object) -> Iterator[jwt.PyJWK]:
    try:
        several = json.loads(text).get("keys", ())
    except (ValueError, AttributeError, RecursionError):
        return
    for one in several if isinstance(several, list) else ():
        if isinstance(one, dict) and (kid is None or one.get("kid") in (None, kid)):
            try:
                yield jwt.PyJWK(one)
            except (jwt.PyJWTError, TypeError):
                continue


def _signed(token: str, key: jwt.PyJWK) -> bool:
    unchecked = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    try:
        jwt.decode(token, key, algorithms=[key.algorithm_name], options=unchecked)  # type: ignore[arg-type]  # a TypedDict
    except jwt.PyJWTError:
        return False
    return True


def _judged(provider: config_pb2.JwtProvider, claims: dict[str, Any], call: Call) -> Verdict:
    """The claims of a token whose signature is good."""
    if provider.issuer and claims.get("iss") != provider.issuer:
        return Verdict(status=Status.FOREIGN, text=f"the token is of {claims.get('iss')}, not of {provider.issuer}")
    if (late := _late(claims, call.moment)) is not None:
        return Verdict(status=Status.BAD, text=late)
    said = claims.get("aud", ())
    audiences = {_plain(str(one)) for one in ([said] if isinstance(said, str) else said)}
    if provider.audiences and not audiences & {_plain(one) for one in provider.audiences}:
        return Verdict(
            status=Status.AUDIENCE, text=f"the token is for {sorted(audiences)}, not {sorted(provider.audiences)}"
        )
    spaced = tuple(provider.normalize_payload_in_metadata.space_delimited_claims)
    left = {
        name: value.split() if name in spaced and isinstance(value, str) else value for name, value in claims.items()
    }
    return Verdict(
        status=Status.GOOD,
        text=f"token of {provider.issuer} is good",
        claims={provider.payload_in_metadata: left} if provider.payload_in_metadata else {},
        clears=provider.clear_route_cache,
    )


def _late(claims: Mapping[str, Any], moment: float | None) -> str | None:
    if moment is None:
        return None
    if isinstance(claims.get("exp"), int | float) and moment > claims["exp"] + _SKEW:
        return "the token has expired"
    if isinstance(claims.get("nbf"), int | float) and moment < claims["nbf"] - _SKEW:
        return "the token is not valid yet"
    return None


def _plain(audience: str) -> str:
    """Without scheme and final slash (Envoy: sanitizeAudience)."""
    return audience.removeprefix("https://").removeprefix("http://").removesuffix("/")

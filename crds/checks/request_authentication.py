"""RequestAuthentication: issuers, where tokens are, and where their keys are (features row N12).

Key sets in the object are judged as Envoy will, since it refuses a listener whose key set it cannot use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from crds import jwks
from crds.checks import target_reference, values
from crds.checks.findings import Findings
from crds.request_authentication import JWTRule, RequestAuthentication

_DRY_RUN: Final = "istio.io/dry-run"
_HEADER: Final = re.compile(r"[-_A-Za-z0-9]+\Z")
_MOST_CLAIMS: Final = 64
_MOST_RULES: Final = 4096
_LONGEST_URI: Final = 2048


def check(item: RequestAuthentication, found: Findings) -> None:
    """Everything that one RequestAuthentication can be wrong about."""
    spec = item.spec
    if _DRY_RUN in item.metadata.annotations:
        found.error("metadata.annotations", f"{_DRY_RUN} is for AuthorizationPolicy only")
    target_reference.check(found, spec.selector, spec.target_ref, spec.target_refs)
    if len(spec.jwt_rules) > _MOST_RULES:
        found.error("spec.jwtRules", f"has more than {_MOST_RULES} items")
    for index, rule in enumerate(spec.jwt_rules):
        _rule(found, f"spec.jwtRules[{index}]", rule)


def _rule(found: Findings, field: str, rule: JWTRule) -> None:
    given = rule.model_fields_set
    if not rule.issuer and (not rule.jwks_uri or "issuer" in given):
        found.missing(f"{field}.issuer")
    if "jwks_uri" in given:
        found.check(f"{field}.jwksUri", _uri(rule.jwks_uri))
    if rule.jwks and rule.jwks_uri:
        found.error(field, "only one of jwks and jwksUri can be set")
    if rule.jwks:
        _keys(found, f"{field}.jwks", rule.jwks)
    if len(rule.space_delimited_claims) > _MOST_CLAIMS:
        found.error(f"{field}.spaceDelimitedClaims", f"has more than {_MOST_CLAIMS} items")
    found.check(f"{field}.timeout", values.duration(rule.timeout))
    _locations(found, field, rule)
    _outputs(found, field, rule)


def _keys(found: Findings, field: str, text: str) -> None:
    try:
        keys = jwks.read(text)
        jwks.usable(text)
    except jwks.KeySetError as problem:
        found.error(field, str(problem))
        return
    if jwks.has_private(keys):
        found.warning(field, "holds the private part of a key: whoever reads this object can make tokens")


def _locations(found: Findings, field: str, rule: JWTRule) -> None:
    """Where a token may be. Envoy refuses an empty name."""
    lists: tuple[tuple[str, Iterable[str]], ...] = (
        ("audiences", rule.audiences),
        ("fromParams", rule.from_params),
        ("fromCookies", rule.from_cookies),
        ("spaceDelimitedClaims", rule.space_delimited_claims),
    )
    for name, texts in lists:
        for index, text in enumerate(texts):
            found.check(f"{field}.{name}[{index}]", values.line(text) if text else "must not be empty")
    for index, header in enumerate(rule.from_headers):
        place = f"{field}.fromHeaders[{index}]"
        found.check(f"{place}.name", _header(header.name))
        found.check(f"{place}.prefix", values.line(header.prefix))


def _outputs(found: Findings, field: str, rule: JWTRule) -> None:
    """What is told of a good token. Envoy refuses a header that HTTP does not have."""
    if rule.output_payload_to_header:
        found.check(f"{field}.outputPayloadToHeader", _header(rule.output_payload_to_header))
    for index, one in enumerate(rule.output_claim_to_headers):
        place = f"{field}.outputClaimToHeaders[{index}]"
        problem = None if _HEADER.match(one.header) else f"{one.header!r} is no name of a header"
        found.check(f"{place}.header", problem)
        found.check(f"{place}.claim", values.line(one.claim) if one.claim else "must not be empty")


def _header(name: str) -> str | None:
    if not name:
        return "must not be empty"
    return None if _TOKEN.match(name) else f"{name!r} is no name of a header"


_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~A-Za-z0-9]+\Z")


def _uri(text: str) -> str | None:
    """What is wrong with where keys are said to be (Istio: ParseJwksURI)."""
    if len(text) > _LONGEST_URI or not text.isprintable() or " " in text:
        return f"must be a URL of at most {_LONGEST_URI} characters without blanks"
    try:
        parts = urlsplit(text)
        has_port = parts.port != 0
    except ValueError as problem:
        return f"{text!r} is no URL: {problem}"
    return None if has_port and _is_http(parts) else "must be a URL of scheme http or https, with a host"


def _is_http(parts: SplitResult) -> bool:
    return parts.scheme in ("http", "https") and bool(parts.hostname)

"""What the proxy answers itself, and what it changes of the path: redirect, direct response, rewrite (F7, F8, F10)."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Final

from crds import virtual_service
from istiod.mesh.route import DirectResponse, MatchKind, Redirect, RedirectPort, Rewrite, RouteMatch

REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def redirect(said: virtual_service.HTTPRedirect) -> Redirect:
    """The redirect; a code that Envoy does not know becomes 301."""
    return Redirect(
        path=said.uri,
        prefix=said.prefix_rewrite,
        authority=said.authority,
        port=said.port or None,
        derive_port=RedirectPort(said.derive_port) if said.derive_port else None,
        scheme=said.scheme,
        code=said.redirect_code if said.redirect_code in REDIRECT_CODES else 301,
    )


def redirect_at(found: Redirect, port: int, *, tls: bool) -> Redirect:
    """The redirect for requests that come to ``port``: a port from the request becomes that number.

    Default ports of the scheme are not written out (Istio: ApplyRedirect).
    """
    number = port if found.derive_port is RedirectPort.REQUEST else found.port
    scheme = found.scheme or ("https" if tls else "http")
    return replace(found, port=None if number == _DEFAULT_PORTS.get(scheme) else number, derive_port=None)


def direct_response(said: virtual_service.HTTPDirectResponse) -> DirectResponse:
    """The answer. Bytes stand in base64, as protobuf's JSON form has it (checked before: see http_rules)."""
    body = said.body or virtual_service.HTTPBody()
    if body.bytes is not None:
        return DirectResponse(status=said.status, body=base64.b64decode(body.bytes))
    return DirectResponse(status=said.status, body=(body.string or "").encode())


def rewrite(said: virtual_service.HTTPRewrite | None, match: RouteMatch, authority: str) -> Rewrite | None:
    """The rewrite for one match, or None. ``authority`` is what header operations ask for; the rewrite's own wins.

    A plain text replaces the matched prefix; where the match is no prefix it replaces the whole path.
    """
    said = said or virtual_service.HTTPRewrite()
    authority = said.authority or authority
    by_prefix = match.path is None or match.path.kind is MatchKind.PREFIX
    pattern = said.uri_regex_rewrite
    regex = (pattern.match, pattern.rewrite) if pattern else None
    uri = said.uri if said.uri and not regex else None
    if not (authority or uri or regex):
        return None
    return Rewrite(prefix=uri if by_prefix else None, path=None if by_prefix else uri, regex=regex, authority=authority)

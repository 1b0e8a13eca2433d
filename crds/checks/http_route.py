"""One HTTP rule of a VirtualService: conditions and actions (features rows F2-F16)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from crds import duration, path
from crds.checks import gateways as gateway_names
from crds.checks import http_fault, labels, resolved_paths, string_match, values
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.virtual_service import (
    CorsPolicy,
    HeaderOperations,
    Headers,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRewrite,
    HTTPRoute,
    StringMatch,
)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
_PSEUDO: Final = frozenset({":authority", ":method", ":path", ":scheme", ":status"})
"""Headers that are none, which conditions may name all the same, as on Istio."""
_CLAIM: Final = re.compile(r"@request\.auth\.claims[.\[]", re.IGNORECASE)
_COMMAND: Final = re.compile(
    r"(?:(?:UPSTREAM|DOWNSTREAM|REQUESTED|REQUEST|RESPONSE|CONNECTION|ROUTE|VIRTUAL|VIRTUAL_CLUSTER|START|EMIT|COMMON|"
    r"CLUSTER|FILTER|DYNAMIC|PER|STREAM|TRACE|UNIQUE|QUERY|LOCAL|CUSTOM|ACCESS_LOG|SPAN|BYTES|UPSTREAM_PEER|TLS_JA3|"
    r"TLS|HEADERS|METADATA|ENVIRONMENT|PROTOCOL|DURATION|HOSTNAME|REQ|RESP|TRAILER|PATH|GRPC|BACKEND|CEL)"
    r"(?:_[A-Z0-9_]+)*)(?:\(.*\))?(?::\d+)?\Z"
)
"""How a variable of Envoy looks; its own word on the whole name comes later."""
_AUTHORITIES: Final = frozenset({"host", ":authority"})
_SECOND: Final = timedelta(seconds=1)
_LONGEST_NAME: Final = 1024  # of query parameters, in Envoy
_LARGE_BODY: Final = 100 * 1024
_LARGEST_BODY: Final = 1024 * 1024
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_SCHEMES: Final = frozenset({"", "http", "https"})
_STATUSES: Final = range(200, 600)


def check(found: Findings, field: str, route: HTTPRoute, *, is_delegate: bool, gateways: Sequence[str]) -> None:
    """Everything but destinations and weights."""
    _actions(found, field, route, is_delegate=is_delegate)
    for index, match in enumerate(route.match):
        _match(found, f"{field}.match[{index}]", match, gateways)
    if route.redirect is not None:
        _redirect(found, f"{field}.redirect", route.redirect, route.match)
    if route.direct_response is not None:
        _direct_response(found, f"{field}.directResponse", route.direct_response)
    if route.rewrite is not None:
        _rewrite(found, f"{field}.rewrite", route.rewrite)
    if route.cors_policy is not None:
        _cors(found, f"{field}.corsPolicy", route.cors_policy)
    found.lasts(f"{field}.timeout", route.timeout)
    http_fault.check(found, field, route)
    _headers(found, f"{field}.headers", route.headers)
    for index, destination in enumerate(route.route):
        _headers(found, f"{field}.route[{index}].headers", destination.headers)
    _authority(found, field, route)


def _actions(found: Findings, field: str, route: HTTPRoute, *, is_delegate: bool) -> None:
    """Exactly one of route, redirect, directResponse and delegate."""
    actions = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
        "delegate": route.delegate is not None,
    }
    given = [name for name, is_given in actions.items() if is_given]
    if is_delegate and route.delegate is not None:
        found.error(f"{field}.delegate", "a delegate may not delegate further")
    elif not given:
        found.error(field, "one of route, redirect, directResponse and delegate must be given", Code.MISSING_FIELD)
    elif len(given) > 1:
        found.error(f"{field}.{given[-1]}", f"excludes {given[0]}")
    if actions["redirect"] or actions["directResponse"]:
        for name, value in (("fault", route.fault if actions["redirect"] else None), ("rewrite", route.rewrite)):
            if value is not None:
                found.error(f"{field}.{name}", f"excludes {given[0]}")


def _match(found: Findings, field: str, match: HTTPMatchRequest, gateways: Sequence[str]) -> None:
    for name, condition in (
        ("uri", match.uri),
        ("scheme", match.scheme),
        ("method", match.method),
        ("authority", match.authority),
    ):
        string_match.check(found, f"{field}.{name}", condition, empty_prefix=name == "uri")
    if match.uri is not None:
        resolved_paths.check(found, f"{field}.uri.exact", match.uri.exact or "")
        resolved_paths.check(found, f"{field}.uri.prefix", match.uri.prefix or "", ends=False)
    for name, conditions in (
        ("headers", match.headers),
        ("withoutHeaders", match.without_headers),
        ("queryParams", match.query_params),
    ):
        _conditions(found, f"{field}.{name}", conditions)
    named = [*match.headers, *match.without_headers]
    if any(_CLAIM.match(name) for name in named) and (not gateways or "mesh" in gateways):
        problem = "conditions on JWT claims work at gateways only; name some, and not mesh"
        (found.refuse if set(gateways) - {"mesh"} else found.error)(f"{field}.headers", problem)
    if match.port:
        found.check(f"{field}.port", values.port(match.port))
    labels.check(found, f"{field}.sourceLabels", match.source_labels)
    if match.source_namespace and not values.is_label(match.source_namespace):
        found.error(f"{field}.sourceNamespace", f"{match.source_namespace!r} is no namespace")
    gateway_names.check(found, f"{field}.gateways", match.gateways)


def _conditions(found: Findings, field: str, conditions: Mapping[str, StringMatch]) -> None:
    for name, condition in conditions.items():
        found.check(field, _name(name))
        if name and field.endswith("eaders") and name not in _PSEUDO and not _CLAIM.match(name):
            found.refuse(field, values.header(name))
        if not (field.endswith("withoutHeaders") and condition.regex == string_match.ANY):
            string_match.check(found, path.child(field, name), condition)


def _name(name: str) -> str | None:
    if not name or len(name.encode()) > _LONGEST_NAME:
        return f"a name is not empty and has at most {_LONGEST_NAME} bytes"
    return values.line(name)


def _redirect(found: Findings, field: str, redirect: HTTPRedirect, matches: Sequence[HTTPMatchRequest]) -> None:
    _target(found, field, redirect)
    if redirect.uri and redirect.prefix_rewrite:
        found.error(f"{field}.prefixRewrite", "excludes uri")
    if redirect.prefix_rewrite and any(match.uri is None or match.uri.prefix is None for match in matches):
        found.error(f"{field}.prefixRewrite", "needs a prefix in every match of the uri")
    if redirect.redirect_code and redirect.redirect_code not in _REDIRECTS:
        known = ", ".join(map(str, _REDIRECTS))
        found.error(f"{field}.redirectCode", f"{redirect.redirect_code} is none of {known}, which Envoy can answer")
    for name, value in (
        ("uri", redirect.uri),
        ("prefixRewrite", redirect.prefix_rewrite or ""),
        ("authority", redirect.authority),
        ("scheme", redirect.scheme),
    ):
        found.check(f"{field}.{name}", values.line(value))
    if redirect.port is not None and redirect.derive_port is not None:
        found.error(f"{field}.derivePort", "excludes port")


def _target(found: Findings, field: str, redirect: HTTPRedirect) -> None:
    """Where it leads: some part of the address is another one."""
    said = redirect.uri or redirect.prefix_rewrite or redirect.authority or redirect.scheme
    if not said and redirect.port is None and redirect.derive_port is None:
        found.refuse(field, "uri, prefixRewrite, authority, port or scheme must be given")
    if redirect.scheme not in _SCHEMES:
        found.error(f"{field}.scheme", f"{redirect.scheme!r} is neither http nor https")
    if redirect.port:
        found.check(f"{field}.port", values.port(redirect.port))


def _direct_response(found: Findings, field: str, response: HTTPDirectResponse) -> None:
    if response.status not in _STATUSES:
        found.error(f"{field}.status", f"{response.status} is not in the range 200 to 599")
    if response.body is None:
        return
    if response.body.string is not None and response.body.bytes is not None:
        found.error(f"{field}.body.bytes", "excludes string")
    size = len((response.body.string or "").encode())
    if response.body.bytes is not None:
        try:
            size = len(base64.b64decode(response.body.bytes, validate=True))
        except ValueError:  # also of what is not ASCII, which is no binascii.Error
            found.error(f"{field}.body.bytes", "is not base64")
    if size > _LARGEST_BODY:
        found.error(f"{field}.body", f"{size} bytes are more than 1 MiB")
    elif size > _LARGE_BODY:
        found.warning(f"{field}.body", f"{size} bytes are sent to every proxy that has this route")


def _rewrite(found: Findings, field: str, rewrite: HTTPRewrite) -> None:
    regex = rewrite.uri_regex_rewrite
    found.check(f"{field}.authority", values.line(rewrite.authority))
    found.check(f"{field}.uri", values.line(rewrite.uri))
    if rewrite.uri and regex is not None:
        found.error(f"{field}.uriRegexRewrite", "excludes uri")
    if not (rewrite.uri or regex is not None or rewrite.authority):
        found.error(field, "uri, uriRegexRewrite or authority must be given", Code.MISSING_FIELD)
    if regex is not None:
        if not regex.match or not regex.rewrite:
            found.error(f"{field}.uriRegexRewrite", "match and rewrite must both be given", Code.MISSING_FIELD)
        found.check(f"{field}.uriRegexRewrite.rewrite", values.line(regex.rewrite))
        string_match.regex(found, f"{field}.uriRegexRewrite.match", regex.match)


def _cors(found: Findings, field: str, policy: CorsPolicy) -> None:
    for index, origin in enumerate(policy.allow_origins):
        at = f"{field}.allowOrigins[{index}]"
        string_match.check(found, at, origin)
        if not (origin.exact or origin.prefix or origin.regex):
            found.error(at, "exact, prefix or regex must be given")
    for index, method in enumerate(policy.allow_methods):
        if method not in _METHODS:
            found.error(f"{field}.allowMethods[{index}]", f"{method!r} is no HTTP method")
    for place, names in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for index, name in enumerate(names):
            found.refuse(f"{field}.{place}[{index}]", None if name == "*" else values.header(name))
    age = policy.max_age
    if age is not None and (age < values.ZERO or not duration.is_whole(age, _SECOND)):
        found.error(f"{field}.maxAge", "must be whole seconds")
    else:
        found.lasts(f"{field}.maxAge", age)


def _headers(found: Findings, field: str, headers: Headers | None) -> None:
    if headers is not None:
        _operations(found, f"{field}.request", headers.request, may_set=_AUTHORITIES)
        _operations(found, f"{field}.response", headers.response)


def _operations(
    found: Findings, field: str, operations: HeaderOperations | None, *, may_set: frozenset[str] = frozenset()
) -> None:
    """``may_set`` are headers of HTTP itself that can be set or added."""
    if operations is None:
        return
    for verb, names in (("set", operations.set), ("add", operations.add), ("remove", operations.remove)):
        taken = may_set if verb != "remove" else frozenset()
        for name in names:
            found.check(f"{field}.{verb}", values.line(name) if name else "a header's name must not be empty")
            if (name.startswith(":") or name.lower() == "host") and name.lower() not in taken:
                found.refuse(f"{field}.{verb}", f"{name} is no header that can be changed here")
    for verb, fields in (("set", operations.set), ("add", operations.add)):
        for name, value in fields.items():
            found.check(path.child(f"{field}.{verb}", name), header_value(value))


def header_value(value: str) -> str | None:
    """One line; Envoy reads %NAME% in it as a variable, and %% as a percent sign."""
    if value.count("%") % 2:
        return f"{value!r} has a % that is not closed; write %% for a percent sign"
    for name in value.split("%")[1::2]:
        if name and not _COMMAND.match(name):
            return f"%{name}% is no variable of Envoy; write %% for a percent sign"
    return f"{value!r} has a control character in it" if values.has_control(value) else None


def _authority(found: Findings, field: str, route: HTTPRoute) -> None:
    """The authority is set in one place only."""
    rewritten = [f"{field}.rewrite.authority"] if route.rewrite is not None and route.rewrite.authority else []
    of_route = [*rewritten, *_setters(f"{field}.headers", route.headers)]
    if len(of_route) > 1:
        found.error(of_route[1], f"the authority is also set by {of_route[0]}")
    for index, to in enumerate(route.route):
        setters = [*rewritten, *_setters(f"{field}.route[{index}].headers", to.headers)]
        if len(setters) > 1:
            found.warning(setters[1], f"the authority is also set by {setters[0]}")


def _setters(field: str, headers: Headers | None) -> list[str]:
    operations = headers.request if headers is not None else None
    if operations is None:
        return []
    verbs = (("set", operations.set), ("add", operations.add))
    return [f"{field}.request.{verb}" for verb, names in verbs for name in names if name.lower() in _AUTHORITIES]

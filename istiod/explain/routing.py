"""From a request to its route: virtual host by domain, then the first route that fits (v3 API: VirtualHost, Route)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.type.v3 import percent_pb2

from istiod.envoy import blame
from istiod.explain import matching
from istiod.explain.answer import Change, Lost
from istiod.explain.call import Call, Tls, UndecidedError
from istiod.explain.matching import Metadata

_Manager = hcm_pb2.HttpConnectionManager
_MARKS = {"%2f": "/", "%5c": "\\"}
_SCALES = (100, 10_000, 1_000_000)


def percent(fraction: percent_pb2.FractionalPercent) -> float:
    """A fraction in percent."""
    return 100.0 * fraction.numerator / _SCALES[fraction.denominator]


def normalized(call: Call, manager: hcm_pb2.HttpConnectionManager) -> Call:
    """The request as the connection manager hands it to its filters: path and host (rows N13, N14)."""
    head, mark, tail = call.path.partition("?")
    if manager.path_with_escaped_slashes_action == _Manager.UNESCAPE_AND_FORWARD:
        head = re.sub("%2f|%5c", lambda found: _MARKS[found[0].lower()], head, flags=re.IGNORECASE)
    elif manager.path_with_escaped_slashes_action > _Manager.KEEP_UNCHANGED:
        raise UndecidedError("escaped slashes in paths are refused or redirected")
    if manager.normalize_path.value:
        head = _canonical(head)
    if manager.merge_slashes:
        head = re.sub("/+", "/", head)
    authority = call.authority
    if manager.strip_any_host_port or (manager.strip_matching_host_port and authority.endswith(f":{call.port}")):
        authority = re.sub(r":\d+$", "", authority)
    return replace(call, path=head + mark + tail, authority=authority)


def _canonical(path: str) -> str:
    """Without ``.`` and ``..``, with slashes in place of backslashes, and unreserved characters as they are."""
    path = path.replace("\\", "/")
    path = re.sub(
        "%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)) if _unreserved(found[1]) else found[0], path
    )
    folder = path.endswith(("/", "/.", "/.."))
    parts: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    if folder and (not parts or parts[-1]):
        parts.append("")
    return "/" + "/".join(parts)


def _unreserved(code: str) -> bool:
    character = chr(int(code, 16))
    return character.isascii() and (character.isalnum() or character in "-._~")


def host(table: route_pb2.RouteConfiguration, authority: str) -> tuple[route_components_pb2.VirtualHost | None, str]:
    """The virtual host that a request is for, and the domain that it has for it.

    An exact domain wins, then the longest ``*suffix``, then the longest ``prefix*``, then ``*``.
    """
    wanted = authority.lower()
    if table.ignore_port_in_host_matching:
        wanted = re.sub(r":\d+$", "", wanted)
    best: tuple[tuple[int, int], route_components_pb2.VirtualHost, str] | None = None
    for one in table.virtual_hosts:
        for domain in one.domains:
            rank = _rank(domain.lower(), wanted)
            if rank is not None and (best is None or rank > best[0]):
                best = rank, one, domain
    return (best[1], best[2]) if best else (None, "")


def _rank(domain: str, wanted: str) -> tuple[int, int] | None:
    if domain == wanted:
        return (3, 0)
    if domain == "*":
        return (0, 0)
    if domain.startswith("*") and wanted.endswith(domain[1:]) and len(wanted) >= len(domain):
        return (2, len(domain))
    if domain.endswith("*") and wanted.startswith(domain[:-1]) and len(wanted) >= len(domain):
        return (1, len(domain))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The route of a request, None where none fits, and those before it that did not fit."""

    route: route_components_pb2.Route | None
    lost: tuple[Lost, ...] = ()


def route(one: route_components_pb2.VirtualHost, call: Call, held: Metadata) -> Found:
    """The first route of a virtual host that fits a request.

    Raises:
        UndecidedError: a route before it asks for something that is not known.
    """
    lost: list[Lost] = []
    for each in one.routes:
        reason = lacks(each.match, call, held)
        if not reason:
            return Found(route=each, lost=tuple(lost))
        lost.append(Lost(name=each.name, reason=reason, origin=blame.origin_of(each.metadata)))
    return Found(route=None, lost=tuple(lost))


def lacks(match: route_components_pb2.RouteMatch, call: Call, held: Metadata) -> str:
    """Why a request is not of a route."""
    if match.HasField("runtime_fraction") and percent(match.runtime_fraction.default_value) < 100:  # noqa: PLR2004 (all)
        raise UndecidedError("a route that takes a part of the requests by chance")
    if match.HasField("tls_context"):
        raise UndecidedError("a route by certificate")
    if match.HasField("grpc") and not (call.header("content-type") or "").startswith("application/grpc"):
        return "the request is no gRPC"
    reason = _path(match, call)
    if reason:
        return reason
    reasons = (
        *(matching.header(one, call) for one in match.headers),
        *(matching.query(one, call.path) for one in match.query_parameters),
        *(matching.metadata(one, held) for one in match.dynamic_metadata),
    )
    return next(filter(None, reasons), "")


def _path(match: route_components_pb2.RouteMatch, call: Call) -> str:
    kind, path = match.WhichOneof("path_specifier"), call.plain_path
    if kind == "safe_regex":
        wanted = match.safe_regex.regex
        return "" if matching.full(wanted, path) else f"path is {path!r}, not pattern {wanted!r}"
    if kind not in ("prefix", "path", "path_separated_prefix"):
        raise UndecidedError(f"a route by {kind}")
    wanted = getattr(match, kind)
    exact = not match.HasField("case_sensitive") or match.case_sensitive.value
    one, other = (wanted, path) if exact else (wanted.lower(), path.lower())
    if kind == "path":
        return "" if one == other else f"path is {path!r}, not {wanted!r}"
    fits = other == one or other.startswith(one + "/") if kind == "path_separated_prefix" else other.startswith(one)
    return "" if fits else f"path is {path!r}, does not begin with {wanted!r}"


def said(match: route_components_pb2.RouteMatch) -> str:
    """What a route asks for, on one line."""
    kind = match.WhichOneof("path_specifier")
    path = {"prefix": f"{match.prefix}*", "path": match.path, "safe_regex": f"~{match.safe_regex.regex}"}
    parts = [path.get(kind or "", str(kind))]
    parts += [f"header {one.name}{_negated(one)}{_value(one)}" for one in match.headers]
    parts += [f"query {one.name} {matching.words(one.string_match)}" for one in match.query_parameters]
    parts += [f"claim {'.'.join(step.key for step in one.path[1:])}" for one in match.dynamic_metadata]
    return ", ".join(parts)


def _negated(one: route_components_pb2.HeaderMatcher) -> str:
    return " not" if one.invert_match else ""


def _value(one: route_components_pb2.HeaderMatcher) -> str:
    return f" {matching.words(one.string_match)}" if one.HasField("string_match") else ""


def rewritten(
    path: str,
    match: route_components_pb2.RouteMatch,
    to: route_components_pb2.RouteAction | route_components_pb2.RedirectAction,
) -> str:
    """The path after prefix_rewrite or regex_rewrite; the query stays."""
    head, mark, tail = path.partition("?")
    if to.HasField("regex_rewrite"):
        return matching.replaced(to.regex_rewrite.pattern.regex, to.regex_rewrite.substitution, head) + mark + tail
    if not to.prefix_rewrite:
        return path
    kind = match.WhichOneof("path_specifier")
    matched = len(head) if kind == "safe_regex" else len(getattr(match, kind or "prefix"))
    return to.prefix_rewrite + head[matched:] + mark + tail


def location(call: Call, one: route_components_pb2.Route) -> str:
    """Where a redirect leads."""
    to = one.redirect
    scheme = "https" if to.https_redirect else to.scheme_redirect or ("http" if call.tls is Tls.NONE else "https")
    name, _, port = call.authority.partition(":")
    if to.host_redirect or ((to.https_redirect or to.scheme_redirect) and port in ("80", "443")):
        port = ""
    port = str(to.port_redirect) if to.port_redirect else port
    path = to.path_redirect or rewritten(call.path, one.match, to)
    if to.path_redirect and "?" in call.path and "?" not in path:
        path += "?" + call.path.partition("?")[2]
    if to.strip_query:
        path = path.partition("?")[0]
    path = path if path.startswith("/") else f"/{path}"  # as Envoy's newPath has it
    return f"{scheme}://{to.host_redirect or name}{f':{port}' if port else ''}{path}"


def changed(call: Call, owner: route_components_pb2.Route | route_components_pb2.WeightedCluster.ClusterWeight) -> Call:
    """The request after the header changes of a route or a weighted destination: removals first."""
    headers = {
        name: value
        for name, value in call.headers.items()
        if name not in {each.lower() for each in owner.request_headers_to_remove}
    }
    unknown = set(call.unknown)
    for each in owner.request_headers_to_add:
        name, value = each.header.key.lower(), each.header.value
        if "%" in value:
            unknown.add(name)
        appends = each.append_action == base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
        headers[name] = f"{headers[name]},{value}" if appends and name in headers else value
    return replace(call, headers=headers, unknown=frozenset(unknown))


def response(
    *owners: route_components_pb2.Route | route_components_pb2.WeightedCluster.ClusterWeight,
) -> tuple[Change, ...]:
    """What is done to the headers of a response: for each owner, the most particular first, removals first."""
    found: list[Change] = []
    for owner in owners:
        found += [Change(name=each.lower(), value=None) for each in owner.response_headers_to_remove]
        for each in owner.response_headers_to_add:
            appends = each.append_action == base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
            found.append(Change(name=each.header.key.lower(), value=each.header.value, appends=appends))
    return tuple(found)

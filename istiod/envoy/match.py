"""Matching of requests: strings, headers, query parameters, paths (features rows F3, F4)."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import metadata_pb2, regex_pb2, string_pb2, value_pb2

from istiod.envoy import wellknown
from istiod.mesh import jwt
from istiod.mesh.route import ClaimMatch, HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch


def string(match: StringMatch) -> string_pb2.StringMatcher:
    """A string comparison; PRESENT has none and is for headers and parameters only."""
    if match.kind is MatchKind.REGEX:
        return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=match.value))
    if match.kind is MatchKind.PREFIX:
        return string_pb2.StringMatcher(prefix=match.value, ignore_case=match.ignore_case)
    return string_pb2.StringMatcher(exact=match.value, ignore_case=match.ignore_case)


def route(match: RouteMatch) -> route_components_pb2.RouteMatch:
    """The whole condition of a route."""
    found = route_components_pb2.RouteMatch(
        headers=[_header(header) for header in match.headers],
        query_parameters=[_query(parameter) for parameter in match.query],
        dynamic_metadata=[_claim(claim) for claim in match.claims],
    )
    path = match.path
    if path is None:
        found.prefix = "/"
        return found
    found.case_sensitive.value = not path.ignore_case
    if path.kind is MatchKind.REGEX:
        found.safe_regex.regex = path.value
    elif path.kind is MatchKind.PREFIX:
        found.prefix = path.value
    else:
        found.path = path.value
    return found


def _claim(claim: ClaimMatch) -> metadata_pb2.MetadataMatcher:
    """What the jwt_authn filter left of a good token; a claim may be a list of values."""
    present = claim.match.kind is MatchKind.PRESENT
    value = value_pb2.ValueMatcher(present_match=True) if present else value_pb2.ValueMatcher()
    if not present:
        value.string_match.CopyFrom(string(claim.match))
    listed = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=value))
    segment = metadata_pb2.MetadataMatcher.PathSegment
    return metadata_pb2.MetadataMatcher(
        filter=wellknown.JWT_AUTHN,
        path=[segment(key=key) for key in (jwt.PAYLOAD, *claim.path)],
        value=value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=[listed, value])),
        invert=claim.invert,
    )


def _header(header: HeaderMatch) -> route_components_pb2.HeaderMatcher:
    if header.match.kind is MatchKind.PRESENT:
        return route_components_pb2.HeaderMatcher(name=header.name, present_match=True, invert_match=header.invert)
    return route_components_pb2.HeaderMatcher(
        name=header.name,
        string_match=string(header.match),
        invert_match=header.invert,
        # "not equal" holds for a header that is not there, as Istio means withoutHeaders
        treat_missing_header_as_empty=header.invert,
    )


def _query(parameter: QueryMatch) -> route_components_pb2.QueryParameterMatcher:
    if parameter.match.kind is MatchKind.PRESENT:
        return route_components_pb2.QueryParameterMatcher(name=parameter.name, present_match=True)
    return route_components_pb2.QueryParameterMatcher(name=parameter.name, string_match=string(parameter.match))

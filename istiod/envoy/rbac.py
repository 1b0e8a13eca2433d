"""Rules of AuthorizationPolicies as Envoy's RBAC policies (features rows N5-N7, N9; Istio: pilot/pkg/security/authz).

What HTTP has and TCP has not makes an ALLOW rule hold for no connection; of every other rule it is left out, which then
refuses, asks or notes all the more. Texts of users never become parts of a regular expression.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, regex_pb2, string_pb2, value_pb2

from crds import attributes
from crds.attributes import Attribute
from istiod.envoy import wellknown
from istiod.mesh.authorization_rules import All, Condition, Rule

Permission = rbac_pb2.Permission
Principal = rbac_pb2.Principal

ANYTHING: Final = ".+"
"""The pattern of a lone ``*``, in Istio's words."""
_TOKENS = "envoy.filters.http.jwt_authn"
"""Under this name the filter that checks tokens leaves what it found, as key ``payload``."""
_PAYLOAD = "payload"
_SPIFFE = "spiffe://"
_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")

NEVER = rbac_pb2.Policy(
    permissions=[Permission(not_rule=Permission(any=True))], principals=[Principal(not_id=Principal(any=True))]
)
"""Holds for nothing."""


def rules(said: Iterable[Rule], action: rbac_pb2.RBAC.Action, prefix: str = "", *, tcp: bool) -> rbac_pb2.RBAC:
    """The rules of one action, by name, each with ``prefix`` before it."""
    found = rbac_pb2.RBAC(action=action)
    for rule in said:
        policy = _policy(rule, allows=action == rbac_pb2.RBAC.ALLOW, tcp=tcp)
        if policy is not None:
            found.policies[prefix + rule.name].CopyFrom(policy)
    return found


def _policy(rule: Rule, *, allows: bool, tcp: bool) -> rbac_pb2.Policy | None:
    """A rule; None where it holds for no connection."""
    if not rule.callers:
        return NEVER
    every = (one for part in (*rule.callers, *rule.operations) for one in part)
    if allows and (rule.broken or (tcp and any(one.attribute.of_requests for one in every))):
        return None
    return rbac_pb2.Policy(
        permissions=[_permission(part, tcp=tcp) for part in rule.operations],
        principals=[_principal(part, tcp=tcp) for part in rule.callers],
    )


def _permission(part: All, *, tcp: bool) -> Permission:
    found = []
    for one, values, negated in _terms(part, tcp=tcp):
        if one.attribute is Attribute.METADATA:
            term = Permission(metadata=_metadata(one.path[0], one.path[1:], _either(map(_listed, values))))
        else:
            match = _PERMISSIONS[one.attribute]
            term = Permission(or_rules=Permission.Set(rules=[match(value) for value in values]))
        found.append(Permission(not_rule=term) if negated else term)
    return Permission(and_rules=Permission.Set(rules=found or [Permission(any=True)]))


def _principal(part: All, *, tcp: bool) -> Principal:
    found = []
    for one, values, negated in _terms(part, tcp=tcp):
        joint = _TOGETHER.get(one.attribute)
        if joint is not None:
            term = joint(one.path, values)
        else:
            match = _PRINCIPALS[one.attribute]
            term = Principal(or_ids=Principal.Set(ids=[match(one.path, value) for value in values]))
        found.append(Principal(not_id=term) if negated else term)
    return Principal(and_ids=Principal.Set(ids=found or [Principal(any=True)]))


def _terms(part: All, *, tcp: bool) -> Iterator[tuple[Condition, tuple[str, ...], bool]]:
    """Each condition's values, and apart from them those that must not hold; what only HTTP has is not for TCP."""
    for one in part:
        if tcp and one.attribute.of_requests:
            continue
        if one.values:
            yield one, one.values, False
        if one.not_values:
            yield one, one.not_values, True


def string(value: str, before: str = "", *, ignore_case: bool = False) -> string_pb2.StringMatcher:
    """``*``, ``*suffix``, ``prefix*`` or the text itself. ``before`` stands before the value, unless that is ``*``."""
    if value == "*":
        return _regex(ANYTHING)
    if value.startswith("*") and before:
        return _regex(before + ".*" + quoted(value[1:]))
    if value.startswith("*"):
        return string_pb2.StringMatcher(suffix=value[1:], ignore_case=ignore_case)
    if value.endswith("*"):
        return string_pb2.StringMatcher(prefix=before + value[:-1], ignore_case=ignore_case)
    return string_pb2.StringMatcher(exact=before + value, ignore_case=ignore_case)


def _regex(pattern: str) -> string_pb2.StringMatcher:
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=pattern))


def quoted(text: str) -> str:
    """The text as a regular expression for itself (Go: regexp.QuoteMeta)."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _wild(text: str, any_of: str) -> str:
    """The text as a regular expression in which ``*`` stands for ``any_of``."""
    return any_of.join(map(quoted, text.split("*")))


def _header(name: str, value: str, *, ignore_case: bool = False) -> route_components_pb2.HeaderMatcher:
    if value == "*":
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=string(value, ignore_case=ignore_case))


def _inline(name: str, value: str) -> route_components_pb2.HeaderMatcher:
    """One of the values of a header that holds several, with commas between or on lines of its own."""
    if value == "*":
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    first, last = r"(.*,)?[ \t]*", r"[ \t]*(,.*)?"
    if value.startswith("*"):
        pattern = f".*{quoted(value[1:])}{last}"
    elif value.endswith("*"):
        pattern = f"{first}{quoted(value[:-1])}.*"
    else:
        pattern = f"{first}{quoted(value)}{last}"
    return route_components_pb2.HeaderMatcher(name=name, string_match=_regex(pattern))


def _block(text: str) -> address_pb2.CidrRange:
    found = ipaddress.ip_interface(text)
    return address_pb2.CidrRange(address_prefix=str(found.ip), prefix_len=wellknown.uint32(found.network.prefixlen))


def _path(text: str) -> Permission:
    template = attributes.template(text) if attributes.is_template(text) else None
    if template is None:
        return Permission(url_path=path_pb2.PathMatcher(path=string(text)))
    config = uri_template_match_pb2.UriTemplateMatchConfig(path_template=template)
    return Permission(
        uri_template=extension_pb2.TypedExtensionConfig(name="uri-template", typed_config=wellknown.packed(config))
    )


_PERMISSIONS: Final[Mapping[Attribute, Callable[[str], Permission]]] = {
    Attribute.HOST: lambda value: Permission(header=_header(":authority", value, ignore_case=True)),
    Attribute.METHOD: lambda value: Permission(header=_header(":method", value)),
    Attribute.PATH: _path,
    Attribute.DESTINATION_PORT: lambda value: Permission(destination_port=int(value)),
    Attribute.DESTINATION_IP: lambda value: Permission(destination_ip=_block(value)),
    Attribute.SNI: lambda value: Permission(requested_server_name=string(value)),
}


def _is(identity: string_pb2.StringMatcher) -> Principal:
    return Principal(authenticated=Principal.Authenticated(principal_name=identity))


def _namespace(_: tuple[str, ...], value: str) -> Principal:
    """As Istio, but where its ``.*`` would reach over the ``/sa`` behind the namespace: ``*a`` would be every one."""
    reaches = value.count("*") > 1 or (not value.endswith("*") and "sa".endswith(value.rpartition("*")[2]))
    return _is(_regex(f".*/ns/{_wild(value, '[^/]*' if reaches else '.*')}/.*"))


def _account(_: tuple[str, ...], value: str) -> Principal:
    namespace, account = value.split("/", 1)
    return _is(_regex(f"{_SPIFFE}.+/ns/{quoted(namespace)}/(.+/|)sa/{quoted(account)}(/.+)?"))


def _domain(_: tuple[str, ...], value: str) -> Principal:
    if "*" in value:
        return _is(_regex(f"{_SPIFFE}{_wild(value, '[^/]*')}/.*"))
    return _is(string_pb2.StringMatcher(prefix=f"{_SPIFFE}{value}/"))


_PRINCIPALS: Final[Mapping[Attribute, Callable[[tuple[str, ...], str], Principal]]] = {
    Attribute.SOURCE_IP: lambda _, value: Principal(direct_remote_ip=_block(value)),
    Attribute.REMOTE_IP: lambda _, value: Principal(remote_ip=_block(value)),
    Attribute.SOURCE_NAMESPACE: _namespace,
    Attribute.SERVICE_ACCOUNT: _account,
    Attribute.TRUST_DOMAIN: _domain,
    Attribute.SOURCE_PRINCIPAL: lambda _, value: _is(string(value, _SPIFFE)),
    Attribute.HEADER: lambda path, value: Principal(header=_header(path[0], value)),
    Attribute.INLINE_HEADER: lambda path, value: Principal(header=_inline(path[0], value)),
}


def _metadata(name: str, path: Iterable[str], value: value_pb2.ValueMatcher) -> metadata_pb2.MetadataMatcher:
    steps = [metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in path]
    return metadata_pb2.MetadataMatcher(filter=name, path=steps, value=value)


def _either(matchers: Iterable[value_pb2.ValueMatcher]) -> value_pb2.ValueMatcher:
    found = list(matchers)
    return found[0] if len(found) == 1 else value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=found))


def _member(value: value_pb2.ValueMatcher) -> value_pb2.ValueMatcher:
    return value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=value))


def _listed(value: str) -> value_pb2.ValueMatcher:
    """A value of metadata; in brackets, one of a list there."""
    if value.startswith("[") and value.endswith("]"):
        return _member(value_pb2.ValueMatcher(string_match=string(value.strip("[]"))))
    return value_pb2.ValueMatcher(string_match=string(value))


def _claim(path: tuple[str, ...], values: tuple[str, ...]) -> Principal:
    """A claim that is one of the values, or a list with one of them."""
    wanted = _either(value_pb2.ValueMatcher(string_match=string(value)) for value in values)
    return Principal(metadata=_metadata(_TOKENS, (_PAYLOAD, *path), _either((_member(wanted), wanted))))


def _of_token(name: str, wanted: string_pb2.StringMatcher) -> Principal:
    return Principal(metadata=_metadata(_TOKENS, (_PAYLOAD, name), value_pb2.ValueMatcher(string_match=wanted)))


def _token(_: tuple[str, ...], values: tuple[str, ...]) -> Principal:
    """``ISSUER/SUBJECT``, where the issuer may be a URL."""
    found = []
    for value in values:
        issuer, subject = _parts(value)
        both = [_of_token("iss", issuer), _of_token("sub", subject)]
        found.append(Principal(and_ids=Principal.Set(ids=both)))
    return found[0] if len(found) == 1 else Principal(or_ids=Principal.Set(ids=found))


def _parts(value: str) -> tuple[string_pb2.StringMatcher, string_pb2.StringMatcher]:
    """Issuer and subject of a principal, either of which ``*`` may shorten."""
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        return _regex(ANYTHING), _regex(ANYTHING)
    if value.startswith("*"):
        return (string(issuer), _exact(subject)) if slash else (_regex(ANYTHING), string(value))
    if value.endswith("*"):
        return (_exact(issuer), string(subject)) if slash else (string(value), _regex(ANYTHING))
    return (_exact(issuer), _exact(subject)) if slash else (_exact(value), _exact(""))


def _exact(text: str) -> string_pb2.StringMatcher:
    return string_pb2.StringMatcher(exact=text)


_TOGETHER: Final[Mapping[Attribute, Callable[[tuple[str, ...], tuple[str, ...]], Principal]]] = {
    Attribute.REQUEST_PRINCIPAL: _token,
    Attribute.AUDIENCES: lambda _, values: _claim(("aud",), values),
    Attribute.PRESENTER: lambda _, values: _claim(("azp",), values),
    Attribute.CLAIM: _claim,
}
"""Attributes of a token: one comparison for all values of a condition."""

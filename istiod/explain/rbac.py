"""Envoy's RBAC engine: which policy decides, and what each of the others lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from envoy.config.core.v3 import address_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2

from crds.key import SECURITY, ConfigKey
from istiod.config.origin import Origin
from istiod.explain import matching
from istiod.explain.answer import Lost
from istiod.explain.call import Call, Tls, UndecidedError
from istiod.explain.matching import Metadata

_T = TypeVar("_T")
_RULE: Final = re.compile(r"(?:.*-)?ns\[(?P<namespace>[^]]*)\]-policy\[(?P<name>[^]]*)\]-rule\[(?P<rule>\d+)\]")
"""The name of a rule in istiod.mesh.authorization_rules.name_of, behind the provider's of CUSTOM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a call may pass, the policy that said so ("" where none holds), and the others."""

    allowed: bool
    policy: str
    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What principals and permissions look at. A network filter sees no request."""

    call: Call
    held: Metadata
    requests: bool
    secured: bool


def origin(policy: str) -> Origin | None:
    """The rule of an AuthorizationPolicy that a policy is named after."""
    found = _RULE.fullmatch(policy)
    if found is None:
        return None
    key = ConfigKey(SECURITY, "AuthorizationPolicy", found["namespace"], found["name"])
    return Origin(key=key, field=f"spec.rules[{found['rule']}]")


def decide(rules: rbac_pb2.RBAC, call: Call, held: Metadata, *, requests: bool, secured: bool = True) -> Decision:
    """What the rules say of a call.

    Args:
        rules: of one filter.
        call: the call.
        held: dynamic metadata so far.
        requests: whether the filter sees requests, or connections only.
        secured: whether the proxy itself ends the client's TLS, if there is any, and so knows its certificate.

    Raises:
        UndecidedError: a rule asks for something that is not known.
    """
    facts = _Facts(call=call, held=held, requests=requests, secured=secured)
    lost: list[Lost] = []
    for name in sorted(rules.policies, key=str.encode):
        reason = _lacks(rules.policies[name], facts)
        if not reason:
            return Decision(allowed=rules.action != rbac_pb2.RBAC.DENY, policy=name, lost=tuple(lost))
        lost.append(Lost(name=name, reason=reason, origin=origin(name)))
    return Decision(allowed=rules.action != rbac_pb2.RBAC.ALLOW, policy="", lost=tuple(lost))


def _lacks(policy: rbac_pb2.Policy, facts: _Facts) -> str:
    if policy.HasField("condition") or policy.HasField("checked_condition"):
        raise UndecidedError("a policy with a CEL condition")
    reason = _any(policy.permissions, lambda one: _permission(one, facts))
    return reason or _any(policy.principals, lambda one: _principal(one, facts))


def _any(terms: Iterable[_T], of: Callable[[_T], str]) -> str:
    reasons = []
    for term in terms:
        reason = of(term)
        if not reason:
            return ""
        reasons.append(reason)
    return "; ".join(dict.fromkeys(reasons)) or "it names nobody"


def _all(terms: Iterable[_T], of: Callable[[_T], str]) -> str:
    return next((reason for term in terms if (reason := of(term))), "")


def _permission(term: rbac_pb2.Permission, facts: _Facts) -> str:
    kind = term.WhichOneof("rule")
    if kind == "and_rules":
        return _all(term.and_rules.rules, lambda one: _permission(one, facts))
    if kind == "or_rules":
        return _any(term.or_rules.rules, lambda one: _permission(one, facts))
    if kind == "not_rule":
        return "" if _permission(term.not_rule, facts) else f"excluded: {_said(term.not_rule)}"
    return _PERMISSIONS[kind](term, facts) if kind in _PERMISSIONS else _shared(term, kind or "", facts)


def _principal(term: rbac_pb2.Principal, facts: _Facts) -> str:
    kind = term.WhichOneof("identifier")
    if kind == "and_ids":
        return _all(term.and_ids.ids, lambda one: _principal(one, facts))
    if kind == "or_ids":
        return _any(term.or_ids.ids, lambda one: _principal(one, facts))
    if kind == "not_id":
        return "" if _principal(term.not_id, facts) else f"excluded: {_said(term.not_id)}"
    return _PRINCIPALS[kind](term, facts) if kind in _PRINCIPALS else _shared(term, kind or "", facts)


def _said(term: rbac_pb2.Permission | rbac_pb2.Principal) -> str:
    """A negated term on one line."""
    return " ".join(str(term).split())[:120]


def _shared(term: rbac_pb2.Permission | rbac_pb2.Principal, kind: str, facts: _Facts) -> str:
    """What callers and operations have in common."""
    if kind == "any":
        return ""
    if kind == "header":
        return matching.header(term.header, facts.call) if facts.requests else "a connection has no headers"
    if kind == "url_path":
        return matching.path(term.url_path, facts.call) if facts.requests else "a connection has no path"
    if kind == "metadata":
        return matching.metadata(term.metadata, facts.held)
    raise UndecidedError(f"an RBAC rule of kind {kind}")


def _template(term: rbac_pb2.Permission, facts: _Facts) -> str:
    wanted = uri_template_match_pb2.UriTemplateMatchConfig()
    if not facts.requests or not term.uri_template.typed_config.Unpack(wanted):
        return "a connection has no path"
    return matching.template(wanted.path_template, facts.call)


def _port(term: rbac_pb2.Permission, facts: _Facts) -> str:
    wanted = term.destination_port
    return "" if facts.call.port == wanted else f"port is {facts.call.port}, not {wanted}"


def _name(term: rbac_pb2.Permission, facts: _Facts) -> str:
    wanted, sni = term.requested_server_name, facts.call.sni if facts.call.tls is not Tls.NONE else ""
    return "" if matching.string(wanted, sni) else f"server name is {sni!r}, not {matching.words(wanted)}"


def _block(what: str, address: str, block: address_pb2.CidrRange) -> str:
    if matching.within(address, [block]) is not None:
        return ""
    return f"{what} is {address}, not in {block.address_prefix}/{block.prefix_len.value}"


def _authenticated(term: rbac_pb2.Principal, facts: _Facts) -> str:
    said, call = term.authenticated, facts.call
    if call.tls is Tls.NONE or not facts.secured:
        return "caller has no identity that this proxy can check"
    if not said.HasField("principal_name"):
        return ""
    if call.unnamed:
        raise UndecidedError("whose certificate the client had: a rule asks for a name")
    if matching.string(said.principal_name, call.principal):
        return ""
    return f"caller is {call.principal or 'without a name'}, not {matching.words(said.principal_name)}"


_PERMISSIONS: Final[dict[str, Callable[[rbac_pb2.Permission, _Facts], str]]] = {
    "uri_template": _template,
    "destination_port": _port,
    "requested_server_name": _name,
    "destination_ip": lambda term, facts: _block("destination", facts.call.destination, term.destination_ip),
}
_PRINCIPALS: Final[dict[str, Callable[[rbac_pb2.Principal, _Facts], str]]] = {
    "authenticated": _authenticated,
    "direct_remote_ip": lambda term, facts: _block("caller's address", facts.call.source, term.direct_remote_ip),
    "source_ip": lambda term, facts: _block("caller's address", facts.call.source, term.source_ip),
    "remote_ip": lambda term, facts: _block(
        "client's address", facts.call.client if facts.requests else facts.call.source, term.remote_ip
    ),
}

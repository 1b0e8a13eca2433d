"""AuthorizationPolicy: what no policy can mean, and what only looks like it means something (features rows N4-N10).

Source: Istio's ValidateAuthorizationPolicy, and what Envoy takes: a policy that it refused would not be enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from crds import attributes, path
from crds.attributes import Attribute
from crds.authorization_policy import (
    DRY_RUN,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Condition,
    From,
    Operation,
    Rule,
    Source,
    To,
)
from crds.checks import resolved_paths, target_reference, values
from crds.checks.findings import Findings
from crds.meta import Model
from wire import decimal

_BOOLEANS: Final = frozenset({"1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"})
_HIGHEST_PORT: Final = 65535
_LONGEST: Final = 8192
"""Bytes of one value: proxies make a program of some of them, for which they have a limit."""
_MOST_ACCOUNTS: Final = 16
_LONGEST_ACCOUNT: Final = 320
_BY_ACCOUNT: Final = frozenset({"service_accounts", "not_service_accounts"})
_BY_IDENTITY: Final = frozenset({"principals", "not_principals", "namespaces", "not_namespaces"})
_NOT_WITH_CUSTOM: Final = (
    "namespaces",
    "not_namespaces",
    "principals",
    "not_principals",
    "request_principals",
    "not_request_principals",
)
_CONDITIONS_NOT_WITH_CUSTOM: Final = frozenset(
    {
        Attribute.SOURCE_NAMESPACE,
        Attribute.SOURCE_PRINCIPAL,
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCES,
        Attribute.PRESENTER,
        Attribute.CLAIM,
    }
)
_Check = Callable[[str], str | None]
_TCP: Final = "on ports that are not HTTP it refuses every connection: what it looks at is of HTTP only; name the ports"
_TEMPLATE: Final = "{*"
"""How a part of a path begins that stands for any."""


def check(item: AuthorizationPolicy, found: Findings) -> None:
    """Everything that one AuthorizationPolicy can be wrong about."""
    spec = item.spec
    if spec.selector is not None and not spec.selector.match_labels:
        found.warning("spec.selector", "has no labels, so that it selects the whole namespace")
    target_reference.check(found, spec.selector, spec.target_ref, spec.target_refs)
    _action(spec, found)
    _dry_run(item, found)
    for index, rule in enumerate(spec.rules):
        _rule(rule, spec.action, f"spec.rules[{index}]", found)
    if spec.action == "DENY" and any(_is_http_only(rule) for rule in spec.rules):
        found.warning("spec.rules", _TCP)


def _action(spec: AuthorizationPolicySpec, found: Findings) -> None:
    if spec.action == "CUSTOM" and not (spec.provider and spec.provider.name):
        found.missing("spec.provider.name")
    if spec.action != "CUSTOM" and spec.provider is not None:
        found.error("spec.provider", f"only CUSTOM asks a provider, not {spec.action}")
    if spec.action in {"CUSTOM", "DENY"} and not spec.rules:
        message = f"{spec.action} without rules never does anything; an empty rule {{}} matches every request"
        found.error("spec.rules", message)


def _dry_run(item: AuthorizationPolicy, found: Findings) -> None:
    said = item.metadata.annotations.get(DRY_RUN)
    field = path.child("metadata.annotations", DRY_RUN)
    if said is not None and said not in _BOOLEANS:
        found.error(field, f"{said!r} is neither true nor false")
    elif said is not None and item.spec.action not in {"ALLOW", "DENY"}:
        found.error(field, f"only ALLOW and DENY can be tried, not {item.spec.action}")


def _rule(rule: Rule, action: str, field: str, found: Findings) -> None:
    for index, caller in enumerate(rule.from_):
        _source(caller, action, f"{field}.from[{index}].source", found)
    for index, target in enumerate(rule.to):
        _operation(target, f"{field}.to[{index}].operation", found)
    for index, condition in enumerate(rule.when):
        _condition(condition, action, f"{field}.when[{index}]", found)


def _source(caller: From, action: str, field: str, found: Findings) -> None:
    source = caller.source
    if source is None or source == Source():
        found.error(field, "must say something")
        return
    said = _said(source, field, found)
    for name in ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"):
        _each(said.get(name, ()), _alias(Source, field, name), _block, found)
    for name in ("service_accounts", "not_service_accounts"):
        _accounts(said.get(name, ()), _alias(Source, field, name), found)
    for name in ("principals", "not_principals"):
        _each(said.get(name, ()), _alias(Source, field, name), _principal, found)
    if said.keys() & _BY_ACCOUNT and said.keys() & _BY_IDENTITY:
        found.error(field, "serviceAccounts cannot stand beside principals or namespaces")
    for name in _NOT_WITH_CUSTOM if action == "CUSTOM" else ():
        if name in said:
            found.error(_alias(Source, field, name), "is not possible with CUSTOM")


def _operation(target: To, field: str, found: Findings) -> None:
    operation = target.operation
    if operation is None or operation == Operation():
        found.error(field, "must say something")
        return
    said = _said(operation, field, found)
    for name in ("ports", "not_ports"):
        _each(said.get(name, ()), _alias(Operation, field, name), _port, found)
    for name in ("paths", "not_paths"):
        for index, text in enumerate(said.get(name, ())):
            _path(found, f"{_alias(Operation, field, name)}[{index}]", text)
            place, begins, ends = f"{_alias(Operation, field, name)}[{index}]", text[:1] != "*", text[-1:] != "*"
            resolved_paths.check(found, place, text.strip("*"), begins=begins, ends=ends)


def _condition(condition: Condition, action: str, field: str, found: Findings) -> None:
    if not condition.key:
        found.missing(f"{field}.key")
        return
    key = attributes.read(condition.key)
    if key is None:
        found.error(f"{field}.key", f"{condition.key!r} is no attribute that a condition can look at")
        return
    if not condition.values and not condition.not_values:
        found.error(field, "at least one of values and notValues must be given")
    said = _said(condition, field, found, ("values", "not_values"))
    check_one = _block if key.attribute.is_address else _port if key.attribute is Attribute.DESTINATION_PORT else None
    for name, listed in said.items():
        if check_one is not None:
            _each(listed, _alias(Condition, field, name), check_one, found)
    if action == "CUSTOM" and key.attribute in _CONDITIONS_NOT_WITH_CUSTOM:
        found.error(f"{field}.key", f"{condition.key} is not possible with CUSTOM")
    if key.path and key.path[0].lower() == "host":
        found.warning(
            f"{field}.key", "proxies know no header of this name; ask for hosts of an operation, or :authority"
        )


def _said(part: Model, field: str, found: Findings, names: Iterable[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """The lists that are not empty, by name; an empty text in one is an error."""
    said = {}
    for name in names or type(part).model_fields:
        listed: tuple[str, ...] = getattr(part, name)
        if listed:
            said[name] = listed
        _each(listed, _alias(type(part), field, name), _text, found)
    return said


def _alias(kind: type[Model], field: str, name: str) -> str:
    return f"{field}.{kind.model_fields[name].alias or name}"


def _each(listed: Iterable[str], field: str, problem_of: _Check, found: Findings) -> None:
    for index, text in enumerate(listed):
        found.check(f"{field}[{index}]", problem_of(text))


def _text(text: str) -> str | None:
    if not text:
        return "must not be empty"
    return None if len(text.encode()) <= _LONGEST else f"is longer than {_LONGEST} bytes"


def _block(text: str) -> str | None:
    return values.subnet(text) if text and "%" not in text else f"{text!r} is neither an IP address nor a CIDR block"


def _port(text: str) -> str | None:
    number = decimal.number(text)
    return None if number is not None and number <= _HIGHEST_PORT else f"{text!r} is no port number"


def _principal(text: str) -> str | None:
    return "a principal stands without spiffe://; with it, nobody is it" if text.startswith("spiffe://") else None


def _accounts(listed: Sequence[str], field: str, found: Findings) -> None:
    """Names of accounts; how many and how long they may be says the definition alone."""
    _each(listed, field, _account, found)
    if len(listed) > _MOST_ACCOUNTS:
        found.refuse(field, f"has more than {_MOST_ACCOUNTS} items")
    for index, text in enumerate(listed):
        if len(text) > _LONGEST_ACCOUNT:
            found.refuse(f"{field}[{index}]", f"must be at most {_LONGEST_ACCOUNT} characters long")


def _account(text: str) -> str | None:
    if "*" in text:
        return "a service account has no wildcards"
    namespace, slash, name = text.partition("/")
    fits = bool(namespace) and (not slash or bool(name)) and "/" not in name
    return None if fits else f"{text!r} is neither NAMESPACE/NAME nor NAME"


def _path(found: Findings, field: str, text: str) -> None:
    """Templates are whole. Other braces are none: they serve as they stand, where no webhook was asked."""
    if ("{" in text or "}" in text) and attributes.template(text) is None:
        problem = f"{text!r} is no template: {{*}} and {{**}} are whole segments, and nothing variable follows {{**}}"
        (found.error if _TEMPLATE in text else found.refuse)(field, problem)


def _is_http_only(rule: Rule) -> bool:
    """Whether a DENY rule looks at HTTP and not at the port: all of TCP is refused where it applies (row N9)."""
    ports = any(to.operation and (to.operation.ports or to.operation.not_ports) for to in rule.to)
    conditions = [key for one in rule.when if (key := attributes.read(one.key)) is not None]
    if ports or any(key.attribute is Attribute.DESTINATION_PORT for key in conditions):
        return False
    targets = any(to.operation for to in rule.to)
    callers = any(
        one.source and (one.source.request_principals or one.source.not_request_principals) for one in rule.from_
    )
    return targets or callers or any(key.attribute.of_requests for key in conditions)

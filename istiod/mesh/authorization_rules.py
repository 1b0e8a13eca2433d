"""What an AuthorizationPolicy says, taken apart: rules as alternatives of conditions (features rows N5-N7, N11).

A rule holds where one of its callers and one of its operations hold; each of them is a list of conditions that must all
hold. That is how Envoy's RBAC filter thinks, too, but nothing of Envoy is here. Policies that select a workload are put
together in authorization.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from crds import attributes
from crds import authorization_policy as api
from crds.attributes import Attribute
from crds.checks.values import subnet
from crds.key import ConfigKey
from wire import decimal

_LOCAL = "cluster.local"
"""In a principal it means the mesh's own trust domain, whatever that is called (Istio: DefaultClusterLocalDomain)."""
_LAST_PORT = 65_535
_OF_IDENTITY = 5
"""Parts of ``TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One of ``values`` must hold, if there are any, and none of ``not_values``. ``path`` is as in attributes.Key."""

    attribute: Attribute
    path: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


All = tuple[Condition, ...]
"""Conditions that must all hold; of none, everything holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule by its name in Envoy's RBAC filters and in the access log. Without callers and operations: it never holds.

    ``broken`` says that something in it has no meaning and is left out: such a rule allows nothing, and refuses all the
    more. Sources check objects, so that this is for the case that they did not.
    """

    name: str
    callers: tuple[All, ...]
    operations: tuple[All, ...]
    broken: bool = False


def rules(item: api.AuthorizationPolicy, domains: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules of a policy; of one without rules, the one that never holds.

    Args:
        item: the policy.
        domains: the mesh's trust domain, then its aliases.
    """
    if not item.spec.rules:
        return (Rule(name=name_of(item.key, 0), callers=(), operations=()),)
    return tuple(_rule(item.key, index, said, domains) for index, said in enumerate(item.spec.rules))


def name_of(key: ConfigKey, index: int) -> str:
    """A rule's name as Istio's access logs have it."""
    return f"ns[{key.namespace}]-policy[{key.name}]-rule[{index}]"


def _rule(key: ConfigKey, index: int, said: api.Rule, domains: tuple[str, ...]) -> Rule:
    conditions = [_condition(key, one, domains) for one in said.when]
    known = [one for one in conditions if one is not None]
    broken = len(known) < len(conditions)
    of_callers = tuple(one for one in known if one.attribute not in _OF_OPERATIONS)
    of_operations = tuple(one for one in known if one.attribute in _OF_OPERATIONS)
    callers = tuple((*_caller(key, one.source, domains), *of_callers) for one in said.from_)
    operations = tuple((*_operation(one.operation), *of_operations) for one in said.to)
    whole = (callers or (of_callers,), operations or (of_operations,))
    (callers, operations) = (tuple(tuple(map(_meaningful, each)) for each in part) for part in whole)
    return Rule(
        name=name_of(key, index),
        callers=callers,
        operations=operations,
        broken=broken or (callers, operations) != whole,
    )


def _meaningful(one: Condition) -> Condition:
    """The condition without values that mean nothing."""
    has_meaning = _MEANINGS.get(one.attribute)
    if has_meaning is None:
        return one
    return replace(
        one, values=tuple(filter(has_meaning, one.values)), not_values=tuple(filter(has_meaning, one.not_values))
    )


def _is_block(text: str) -> bool:
    return "%" not in text and subnet(text) is None


def _is_port(text: str) -> bool:
    number = decimal.number(text)
    return number is not None and number <= _LAST_PORT


def _is_path(text: str) -> bool:
    return not attributes.is_template(text) or attributes.template(text) is not None


_MEANINGS: Mapping[Attribute, Callable[[str], bool]] = {
    Attribute.SOURCE_IP: _is_block,
    Attribute.REMOTE_IP: _is_block,
    Attribute.DESTINATION_IP: _is_block,
    Attribute.DESTINATION_PORT: _is_port,
    Attribute.PATH: _is_path,
}


_OF_OPERATIONS = frozenset({Attribute.DESTINATION_IP, Attribute.DESTINATION_PORT, Attribute.SNI, Attribute.METADATA})
"""Attributes of what is called; all others that a condition can look at are of who calls."""


def _condition(key: ConfigKey, said: api.Condition, domains: tuple[str, ...]) -> Condition | None:
    read = attributes.read(said.key)
    if read is None:
        return None
    found = Condition(attribute=read.attribute, path=read.path, values=said.values, not_values=said.not_values)
    return _resolved(found, key.namespace, domains)


def _caller(key: ConfigKey, said: api.Source | None, domains: tuple[str, ...]) -> Iterator[Condition]:
    one = said or api.Source()
    listed = (
        (Attribute.SOURCE_PRINCIPAL, one.principals, one.not_principals),
        (Attribute.REQUEST_PRINCIPAL, one.request_principals, one.not_request_principals),
        (Attribute.SERVICE_ACCOUNT, one.service_accounts, one.not_service_accounts),
        (Attribute.SOURCE_NAMESPACE, one.namespaces, one.not_namespaces),
        (Attribute.TRUST_DOMAIN, one.trust_domains, one.not_trust_domains),
        (Attribute.REMOTE_IP, one.remote_ip_blocks, one.not_remote_ip_blocks),
        (Attribute.SOURCE_IP, one.ip_blocks, one.not_ip_blocks),
    )
    for found in _listed(listed):
        yield _resolved(found, key.namespace, domains)


def _operation(said: api.Operation | None) -> Iterator[Condition]:
    one = said or api.Operation()
    yield from _listed(
        (
            (Attribute.HOST, one.hosts, one.not_hosts),
            (Attribute.METHOD, one.methods, one.not_methods),
            (Attribute.PATH, one.paths, one.not_paths),
            (Attribute.DESTINATION_PORT, one.ports, one.not_ports),
        )
    )


def _listed(listed: Iterable[tuple[Attribute, tuple[str, ...], tuple[str, ...]]]) -> Iterator[Condition]:
    for attribute, values, not_values in listed:
        if values or not_values:
            yield Condition(attribute=attribute, values=values, not_values=not_values)


def _resolved(found: Condition, namespace: str, domains: tuple[str, ...]) -> Condition:
    """The condition with what the values leave to the policy's namespace and to the mesh's trust domains."""
    if found.attribute is Attribute.SERVICE_ACCOUNT:
        values, not_values = (
            tuple(one if "/" in one else f"{namespace}/{one}" for one in each)
            for each in (found.values, found.not_values)
        )
    elif found.attribute is Attribute.SOURCE_PRINCIPAL:
        values, not_values = (tuple(_principals(each, domains)) for each in (found.values, found.not_values))
    elif found.attribute is Attribute.TRUST_DOMAIN:
        values, not_values = (tuple(_trusted(each, domains)) for each in (found.values, found.not_values))
    else:
        return found
    return replace(found, values=values, not_values=not_values)


def _principals(said: Iterable[str], domains: tuple[str, ...]) -> Iterator[str]:
    """Principals of the mesh in its own trust domain and in each alias (Istio: ReplaceTrustDomainAliases)."""
    for principal in said:
        domain, *rest = principal.split("/")
        named = len(rest) == _OF_IDENTITY - 1 and domain != "*"
        if named and (domain == _LOCAL or any(_overlap(domain, one) for one in domains)):
            suffix = domain.removeprefix("*") if domain.startswith("*") else None
            yield from dict.fromkeys(
                principal if suffix is not None and one.endswith(suffix) else "/".join((one, *rest)) for one in domains
            )
        else:
            yield principal


def _overlap(one: str, other: str) -> bool:
    return other in {one, "*"} or _matches(one, other) or _matches(other, one)


def _matches(text: str, pattern: str) -> bool:
    """Whether a text has the prefix or suffix of a pattern."""
    if pattern.endswith("*") and text.startswith(pattern[:-1]):
        return True
    return pattern.startswith("*") and text.endswith(pattern[1:])


def _trusted(said: Iterable[str], domains: tuple[str, ...]) -> Iterator[str]:
    """Trust domains; one of the mesh's stands for all of them (Istio: ExpandTrustDomainAliases)."""
    yield from dict.fromkeys(one for domain in said for one in (domains if domain in domains else (domain,)))

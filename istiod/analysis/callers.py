"""AuthorizationPolicies that let none of the mesh's own workloads in.

Only what a rule says of identities is judged: a caller counts as let in where it might be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crds.attributes import Attribute
from istiod.analysis import catalogue, compiled, fields, membership, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection
from istiod.mesh.authorization import Action, Policy
from istiod.mesh.authorization_rules import All, Condition, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    """A workload that has an identity of the mesh."""

    domain: str
    namespace: str
    account: str


_IDENTITY: Final[Mapping[Attribute, Callable[[_Caller], str]]] = {
    Attribute.SOURCE_PRINCIPAL: lambda one: f"{one.domain}/ns/{one.namespace}/sa/{one.account}",
    Attribute.SOURCE_NAMESPACE: lambda one: one.namespace,
    Attribute.SERVICE_ACCOUNT: lambda one: f"{one.namespace}/{one.account}",
    Attribute.TRUST_DOMAIN: lambda one: one.domain,
}


class _Callers:
    """All of them, by each part of their identity, so that a rule that names one need not look at all."""

    def __init__(self, every: Iterable[_Caller]) -> None:
        self.every = frozenset(every)
        self._known: dict[tuple[Attribute, str], list[_Caller]] = {}
        for caller in self.every:
            for attribute, said in _IDENTITY.items():
                self._known.setdefault((attribute, said(caller)), []).append(caller)

    def near(self, conditions: Iterable[Condition]) -> Iterable[_Caller]:
        """Those that might fulfil all conditions; none else does."""
        for one in conditions:
            if one.values and not any("*" in value for value in one.values):
                return [caller for value in one.values for caller in self._known.get((one.attribute, value), ())]
        return self.every


def _run(known: Collection) -> Iterator[Message]:
    model = compiled.mesh(known).model
    callers = _callers(known, model.settings.trust_domain)
    if not callers.every:
        return
    for policy in model.authorizations.all():
        resource = compiled.resource_of(known, policy.key)
        if resource is None or policy.tried or policy.selector is None or not _selects(known, policy):
            continue
        written = [rule for rule in policy.rules if rule.callers]
        if policy.action is Action.ALLOW and written and not any(_admits(rule, callers) for rule in written):
            yield message.of_field(catalogue.ALLOWS_NOBODY, resource, len(callers.every), field="spec.rules")
        for number, rule in enumerate(policy.rules):
            if policy.action is Action.DENY and _refuses(rule, callers.every):
                field = f"spec.rules[{number}]"
                yield message.of_field(catalogue.DENIES_EVERYBODY, resource, field, len(callers.every), field=field)


def _callers(known: Collection, domain: str) -> _Callers:
    pods = [*known.pods({})]
    return _Callers(
        _Caller(
            domain=domain,
            namespace=pod.namespace,
            account=fields.text(pod.spec, "serviceAccountName") or "default",
        )
        for pod in pods
        if membership.pod_in_mesh(pod, known)
    )


def _selects(known: Collection, policy: Policy) -> bool:
    """Whether the policy holds for a workload at all; where it does not, IST0127 says so."""
    everywhere = policy.key.namespace == known.root_namespace
    return bool(known.pods(dict(policy.selector or ()), None if everywhere else policy.key.namespace))


def _admits(rule: Rule, callers: _Callers) -> bool:
    """Whether a rule might hold for a known caller, or for one without an identity."""
    for conditions in rule.callers:
        own = [one for one in conditions if one.attribute in _IDENTITY]
        if not any(one.values for one in own):
            return True
        if any(all(_holds(one, caller) for one in own) for caller in callers.near(own)):
            return True
    return False


def _refuses(rule: Rule, callers: Iterable[_Caller]) -> bool:
    """Whether a rule that names identities holds for all known callers, whatever they ask for."""
    if rule.operations != ((),):
        return False
    judged: list[All] = [each for each in rule.callers if each and all(one.attribute in _IDENTITY for one in each)]
    return bool(judged) and all(
        any(all(_holds(one, caller) for one in conditions) for conditions in judged) for caller in callers
    )


def _holds(one: Condition, caller: _Caller) -> bool:
    said = _IDENTITY[one.attribute](caller)
    if one.values and not any(_matches(each, said) for each in one.values):
        return False
    return not any(_matches(each, said) for each in one.not_values)


def _matches(pattern: str, said: str) -> bool:
    if pattern.startswith("*"):
        return said.endswith(pattern[1:])
    return said.startswith(pattern[:-1]) if pattern.endswith("*") else said == pattern


ANALYZER: Final = Analyzer(
    name="mesh.CallerAnalyzer",
    description="Checks for authorization policies that refuse every workload of the mesh",
    run=_run,
)

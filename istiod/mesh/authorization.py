"""AuthorizationPolicies: which of them hold for a workload, and what they come to together (features rows N4, N8, N10).

Those of the root namespace hold for the whole mesh, the others for their namespace; a selector narrows both. Envoy asks
in the order CUSTOM, AUDIT, DENY, ALLOW. The rules themselves are authorization_rules.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from crds import authorization_policy as api
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import SECURITY, ConfigKey
from crds.meta import WorkloadSelector
from istiod.config.store import ConfigSnapshot
from istiod.mesh import authorization_rules, ext_authz
from istiod.mesh.authorization_rules import Rule
from istiod.mesh.ext_authz import ExtAuthz
from istiod.mesh.grouping import grouped
from istiod.mesh.recall import Recall
from istiod.mesh.registry import Registry
from istiod.mesh.service import Labels
from istiod.mesh.settings import MeshSettings

KIND = "AuthorizationPolicy"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


class Action(Enum):
    """What a policy does."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """One policy, read. An empty ``selector`` is every workload, None is none: it is for resources of the Gateway API.

    ``tried``: it is counted and not enforced (N10).
    """

    key: ConfigKey
    action: Action
    selector: Labels | None
    rules: tuple[Rule, ...]
    tried: bool = False
    provider: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules of one action. None: no policy says anything; (): policies do, and nothing matches."""

    enforced: tuple[Rule, ...] | None = None
    tried: tuple[Rule, ...] | None = None

    def __bool__(self) -> bool:
        return self.enforced is not None or self.tried is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a provider decides about. One with a ``problem`` cannot be asked: what it should decide is refused."""

    provider: ExtAuthz
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Authorization:
    """All that holds for one workload. Equal ones are one object as long as the policies are (istiod.mesh.recall)."""

    asked: tuple[Asked, ...] = ()
    audit: RuleSet = RuleSet()
    deny: RuleSet = RuleSet()
    allow: RuleSet = RuleSet()

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters of providers."""
        return tuple(one.provider.cluster for one in self.asked if one.provider.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationIndex:
    """Policies by namespace, by name; the providers; and the objects that they were read from."""

    root_namespace: str = ""
    domains: tuple[str, ...] = ()
    by_namespace: Mapping[str, tuple[Policy, ...]] = field(default_factory=dict)
    providers: Mapping[str, ExtAuthz] = field(default_factory=dict)
    read: Mapping[ConfigKey, api.AuthorizationPolicy] = field(default_factory=dict)

    def all(self) -> Iterator[Policy]:
        """Every one, namespace by namespace."""
        for home in self.by_namespace.values():
            yield from home

    def inputs(self, namespace: str) -> tuple[object, ...]:
        """What the answers for workloads of a namespace depend on (for Recall)."""
        return (self.by_namespace.get(self.root_namespace), self.by_namespace.get(namespace), self.providers)

    def of_workload(self, namespace: str, labels: Labels) -> tuple[Policy, ...]:
        """The policies that hold for a workload: the mesh's, then its namespace's."""
        homes = dict.fromkeys((self.root_namespace, namespace))
        return tuple(
            one
            for home in homes
            for one in self.by_namespace.get(home, ())
            if one.selector is not None and one.selector <= labels
        )

    def together(self, policies: tuple[Policy, ...], recall: Recall) -> Authorization | None:
        """What policies come to; None where there is none. Of the same ones, it is the same object."""
        if not policies:
            return None
        return recall.of("authorization", (*policies, self.providers), lambda: _together(policies, self.providers))

    def choose(self, namespace: str, labels: Labels, recall: Recall) -> Authorization | None:
        """What holds for a workload."""
        return self.together(self.of_workload(namespace, labels), recall)


def _together(policies: Iterable[Policy], providers: Mapping[str, ExtAuthz]) -> Authorization:
    by_action: dict[Action, list[Policy]] = {}
    for one in policies:
        by_action.setdefault(one.action, []).append(one)
    return Authorization(
        asked=tuple(_asked(by_action.get(Action.CUSTOM, ()), providers)),
        audit=_rules(by_action.get(Action.AUDIT, ())),
        deny=_rules(by_action.get(Action.DENY, ())),
        allow=_rules(by_action.get(Action.ALLOW, ())),
    )


def _rules(policies: Iterable[Policy]) -> RuleSet:
    parts: dict[bool, list[Rule]] = {}
    for one in policies:
        parts.setdefault(one.tried, []).extend(one.rules)
    enforced, tried = parts.get(False), parts.get(True)
    return RuleSet(
        enforced=None if enforced is None else tuple(enforced), tried=None if tried is None else tuple(tried)
    )


def _asked(policies: Iterable[Policy], providers: Mapping[str, ExtAuthz]) -> Iterator[Asked]:
    """One part for each provider, by name. A workload has one provider only: with several, none is asked."""
    rules: dict[str, list[Rule]] = {}
    for one in policies:
        rules.setdefault(one.provider, []).extend(one.rules)
    several = f"policies name {len(rules)} providers for one workload" if len(rules) > 1 else ""
    for name, mine in sorted(rules.items()):
        provider = _provider(name, providers)
        yield Asked(provider=replace(provider, problem=several) if several else provider, rules=tuple(mine))


def _provider(name: str, providers: Mapping[str, ExtAuthz]) -> ExtAuthz:
    problem = f"the mesh configuration has no provider {name!r} that decides"
    return providers.get(name) or ExtAuthz(name=name, service="", port=0, problem=problem)


def build(
    snapshot: ConfigSnapshot, settings: MeshSettings, registry: Registry, previous: AuthorizationIndex
) -> AuthorizationIndex:
    """The index of a snapshot. What did not change in ``previous`` are the same objects: policies and all."""
    found = snapshot.of(SECURITY, KIND)
    objects = {key: item for key, item in found.items() if isinstance(item, api.AuthorizationPolicy)}
    domains = (settings.trust_domain, *settings.trust_domain_aliases)
    providers = ext_authz.resolve(settings.ext_authz, registry)
    providers = previous.providers if providers == previous.providers else providers
    known = {} if domains != previous.domains else {one.key: one for one in previous.all()}
    by_namespace = grouped(
        (key.namespace, known[key] if key in known and previous.read.get(key) is item else _read(item, domains))
        for key, item in sorted(objects.items())
    )
    for namespace, home in by_namespace.items():
        before = previous.by_namespace.get(namespace, ())
        if len(home) == len(before) and all(one is old for one, old in zip(home, before, strict=True)):
            by_namespace[namespace] = before
    same = objects.keys() == previous.read.keys() and all(
        by_namespace[namespace] is previous.by_namespace.get(namespace) for namespace in by_namespace
    )
    if same and providers is previous.providers and settings.root_namespace == previous.root_namespace:
        return previous
    return AuthorizationIndex(
        root_namespace=settings.root_namespace,
        domains=domains,
        by_namespace=by_namespace,
        providers=providers,
        read=objects,
    )


def _read(item: api.AuthorizationPolicy, domains: tuple[str, ...]) -> Policy:
    spec = item.spec
    return Policy(
        key=item.key,
        action=Action(spec.action),
        selector=None if spec.target_ref or spec.target_refs else _labels(spec.selector),
        rules=authorization_rules.rules(item, domains),
        tried=item.metadata.annotations.get(api.DRY_RUN) in _TRUE,
        provider=spec.provider.name if spec.provider else "",
    )


def _labels(selector: WorkloadSelector | None) -> Labels:
    return frozenset(selector.match_labels.items() if selector else ())


def findings(index: AuthorizationIndex) -> Iterator[Diagnostic]:
    """What of the policies does not do what it says."""
    for policy in index.all():
        if policy.selector is None:
            message = "targetRefs are of the Gateway API and of waypoints, which are not here: nothing is refused"
            yield warning(Code.NOT_SUPPORTED, policy.key, "", message)
        elif policy.action is Action.CUSTOM and (problem := _provider(policy.provider, index.providers).problem):
            message = f"{problem}; until it can be asked, what matches is refused"
            yield warning(Code.UNKNOWN_PROVIDER, policy.key, "spec.provider.name", message)

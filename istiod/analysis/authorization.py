"""AuthorizationPolicies that select no workload, or name a namespace that does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import catalogue, fields, kinds, membership, message, selectors
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource, Steps


def _run(known: Collection) -> Iterator[Message]:
    namespaces = {each.name for each in known.of(kinds.NAMESPACE)}
    for policy in known.of(kinds.AUTHORIZATION_POLICY):
        yield from _workloads(policy, known)
        yield from _namespaces(policy, namespaces)


def _workloads(policy: Resource, known: Collection) -> Iterator[Message]:
    spec = policy.spec
    if fields.dig(spec, "targetRef") or fields.dig(spec, "targetRefs"):
        return
    everywhere = policy.namespace == known.root_namespace
    bare = "selector" not in spec
    if everywhere and bare:
        return
    selector = fields.labels(spec, "selector", "matchLabels")
    chosen = known.pods(selector, None if everywhere else policy.namespace)
    ambient = membership.namespace_in_ambient(known.find(kinds.NAMESPACE, "", policy.namespace))
    served = any(
        membership.pod_in_mesh(each, known) or membership.pod_in_ambient(each) or (ambient and not everywhere)
        for each in chosen
    )
    if not served:
        yield message.make(catalogue.NO_WORKLOADS, policy, selectors.written(selector))


def _namespaces(policy: Resource, known: set[str]) -> Iterator[Message]:
    for i, rule in enumerate(fields.records(policy.spec, "rules")):
        for j, source in enumerate(fields.records(rule, "from")):
            for field in ("namespaces", "notNamespaces"):
                for k, pattern in enumerate(fields.texts(source, "source", field)):
                    if pattern not in known and not any(_matches(pattern, name) for name in known):
                        at: Steps = ("spec", "rules", i, "from", j, "source", "namespaces", k)
                        yield message.make(catalogue.NOT_FOUND, policy, "namespace", pattern, at=at)


def _matches(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name.lower() == pattern.lower()


ANALYZER: Final = Analyzer(
    name="auth.AuthorizationPoliciesAnalyzer",
    description="Checks the validity of authorization policies",
    run=_run,
)

"""Whom a policy is for: its selector or its targets (Istio: validatePolicyTargetReference)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crds.checks import labels
from crds.checks.findings import Findings
from crds.meta import WorkloadSelector
from crds.target_reference import PolicyTargetReference

_KINDS: Final = frozenset(
    {
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)
_MOST: Final = 16


def check(
    found: Findings,
    selector: WorkloadSelector | None,
    target: PolicyTargetReference | None,
    targets: Sequence[PolicyTargetReference],
) -> None:
    """A policy's selector and targets."""
    if sum((selector is not None, target is not None, bool(targets))) > 1:
        found.error("spec", "only one of selector, targetRef and targetRefs can be set")
    if len(targets) > _MOST:
        found.error("spec.targetRefs", f"has more than {_MOST} items")
    named = (("spec.targetRef", target), *((f"spec.targetRefs[{i}]", one) for i, one in enumerate(targets)))
    for field, one in named:
        if one is not None:
            _target(found, field, one)
    if selector is not None:
        labels.selector(found, "spec.selector.matchLabels", selector.match_labels)


def _target(found: Findings, field: str, one: PolicyTargetReference) -> None:
    if not one.name:
        found.missing(f"{field}.name")
    if one.namespace:
        found.error(f"{field}.namespace", "must be empty: only objects of the same namespace can be named")
    if (one.group, one.kind) not in _KINDS:
        found.error(field, "must name a Service, a ServiceEntry, or a Gateway or GatewayClass of the Gateway API")

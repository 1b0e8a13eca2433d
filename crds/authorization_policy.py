"""AuthorizationPolicy: which requests workloads take (features rows N4-N10).

Source: istio.security authorization_policy.proto, v1 and v1beta1. How a condition's ``key`` is read stands in
crds.attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from crds.key import ConfigKey
from crds.meta import Ignored, Model, Object, ObjectMeta, WorkloadSelector
from crds.target_reference import PolicyTargetReference

Values = tuple[str, ...]

DRY_RUN: Final = "istio.io/dry-run"
"""The annotation with which a policy is only counted."""


class Source(Model):
    """Who calls (N5); all fields that are there must hold."""

    principals: Values = ()
    not_principals: Values = ()
    request_principals: Values = ()
    not_request_principals: Values = ()
    namespaces: Values = ()
    not_namespaces: Values = ()
    service_accounts: Values = ()
    not_service_accounts: Values = ()
    trust_domains: Values = ()
    not_trust_domains: Values = ()
    ip_blocks: Values = ()
    not_ip_blocks: Values = ()
    remote_ip_blocks: Values = ()
    not_remote_ip_blocks: Values = ()


class Operation(Model):
    """What is called (N6); all fields that are there must hold."""

    hosts: Values = ()
    not_hosts: Values = ()
    ports: Values = ()
    not_ports: Values = ()
    methods: Values = ()
    not_methods: Values = ()
    paths: Values = ()
    not_paths: Values = ()


class From(Model):
    """One caller."""

    source: Source | None = None


class To(Model):
    """One operation."""

    operation: Operation | None = None


class Condition(Model):
    """One more condition (N7)."""

    key: str = ""
    values: Values = ()
    not_values: Values = ()


class Rule(Model):
    """Matches where a caller, an operation and all conditions match."""

    from_: tuple[From, ...] = Field(default=(), alias="from")
    to: tuple[To, ...] = ()
    when: tuple[Condition, ...] = ()


class ExtensionProvider(Model):
    """Whom CUSTOM asks (N8)."""

    name: str = ""


class AuthorizationPolicySpec(Model):
    """Whom it selects, what it does, and to which requests."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    rules: tuple[Rule, ...] = ()
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: ExtensionProvider | None = None


class AuthorizationPolicy(Object):
    """security.istio.io AuthorizationPolicy."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()
    status: Ignored = None


def closed(document: Mapping[str, Any], key: ConfigKey) -> AuthorizationPolicy | None:
    """What stands for a policy that cannot be read and of which no earlier version is known: it fails closed.

    It selects what the policy selects, its whole namespace where that cannot be read either. An ALLOW policy allows
    nothing; DENY, CUSTOM and what is no action refuse everything. None where the policy refuses nothing: AUDIT, and dry
    runs.

    Args:
        document: the object as it was given.
        key: its name; errors in metadata beyond that do not matter.
    """
    raw = document.get("spec")
    spec: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    action = spec.get("action", "ALLOW")
    if action == "AUDIT" or _annotation(document) in {"1", "t", "T", "true", "TRUE", "True"}:
        return None
    allow = action == "ALLOW" and "provider" not in spec
    return AuthorizationPolicy(
        api_version=str(document.get("apiVersion", "")),
        kind=key.kind,
        metadata=ObjectMeta(name=key.name, namespace=key.namespace),
        spec=AuthorizationPolicySpec(
            selector=WorkloadSelector.of_unreadable(spec),
            target_refs=(PolicyTargetReference(),) if spec.get("targetRef") or spec.get("targetRefs") else (),
            action="ALLOW" if allow else "DENY",
            rules=() if allow else (Rule(),),
        ),
    )


def _annotation(document: Mapping[str, Any]) -> object:
    metadata = document.get("metadata")
    said = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return said.get(DRY_RUN) if isinstance(said, Mapping) else None

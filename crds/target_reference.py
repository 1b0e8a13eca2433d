"""Whom a policy is for, where no selector says it (istio.type.v1beta1.PolicyTargetReference)."""

from __future__ import annotations

from crds.meta import Model


class PolicyTargetReference(Model):
    """An object of the policy's own namespace."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""

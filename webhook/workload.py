"""Who a pod belongs to, and the names that come of it (features A12, A14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from webhook.decision import items, part, strings
from wire import names

_CRON_SUFFIX = re.compile(r"-\d{8,10}$")  # CronJobs name their Jobs by minutes or seconds of the epoch


@dataclass(frozen=True, slots=True)
class Owner:
    """The object a person wrote: a Deployment rather than its ReplicaSet."""

    api_version: str
    kind: str
    name: str

    def url(self, namespace: str) -> str:
        """Istio's form of it, such as kubernetes://apis/apps/v1/namespaces/demo/deployments/web."""
        return f"kubernetes://apis/{self.api_version}/namespaces/{namespace}/{self.kind.lower()}s/{self.name}"


def owner(pod: Mapping[str, object]) -> Owner:
    """The owner, guessed as Istio guesses it from the controller's reference and name."""
    metadata = part(pod, "metadata")
    for reference in items(metadata.get("ownerReferences")):
        if reference.get("controller") is True:
            return _written(reference, strings(metadata.get("labels")))
    return Owner("v1", "Pod", str(metadata.get("name") or str(metadata.get("generateName") or "").removesuffix("-")))


def _written(reference: Mapping[str, object], labels: Mapping[str, str]) -> Owner:
    version, kind, name = (str(reference.get(key) or "") for key in ("apiVersion", "kind", "name"))
    template = labels.get("pod-template-hash")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return Owner("apps/v1", "Deployment", name.removesuffix(f"-{template}"))
    if kind == "Job" and _CRON_SUFFIX.search(name):
        return Owner("batch/v1", "CronJob", _CRON_SUFFIX.sub("", name))
    return Owner(version, kind, name)


def canonical_name(labels: Mapping[str, str], of: Owner) -> str:
    """The canonical service: what dashboards call it."""
    return _first(labels, names.LABEL_CANONICAL_NAME, "app.kubernetes.io/name", "app") or of.name


def canonical_revision(labels: Mapping[str, str]) -> str:
    """The revision of the canonical service."""
    return _first(labels, names.LABEL_CANONICAL_REVISION, "app.kubernetes.io/version", "version") or "latest"


def _first(labels: Mapping[str, str], *keys: str) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")

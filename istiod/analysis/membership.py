"""Who belongs to the mesh, and who to its control plane, as Istio's analyzers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from istiod.analysis import fields, kinds
from istiod.analysis.resources import Collection, Resource

INJECT: Final = "sidecar.istio.io/inject"
INJECTION: Final = "istio-injection"
REVISION: Final = "istio.io/rev"
DATA_PLANE: Final = "istio.io/dataplane-mode"
AMBIENT: Final = "ambient"
PROXY: Final = "istio-proxy"
ENABLED: Final = "enabled"
SYSTEM_NAMESPACES: Final = frozenset(("kube-system", "kube-public", "kube-node-lease", "local-path-storage"))
_REDIRECTION: Final = "ambient.istio.io/redirection"


def is_control_plane(resource: Resource) -> bool:
    """Whether an object is a part of Istio's installation."""
    return "istio" in resource.labels or resource.labels.get("release") == "istio"


def containers(spec: Any) -> list[fields.Record]:
    """All containers of a pod, with those that run before the others."""
    return [*fields.records(spec, "containers"), *fields.records(spec, "initContainers")]


def proxy_image(spec: Any) -> str:
    """The image of a pod's sidecar; "" where it has none."""
    return next((fields.text(one, "image") for one in containers(spec) if fields.text(one, "name") == PROXY), "")


def pod_in_mesh(pod: Resource, known: Collection) -> bool:
    """Whether a pod has a sidecar, or will have."""
    return _in_mesh(pod.spec, pod.labels, pod.annotations, known.find(kinds.NAMESPACE, "", pod.namespace))


def deployment_in_mesh(deployment: Resource, known: Collection) -> bool:
    """Whether the pods of a Deployment will have sidecars."""
    template = fields.record(deployment.spec, "template")
    return _in_mesh(
        fields.record(template, "spec"),
        fields.labels(template, "metadata", "labels"),
        fields.labels(template, "metadata", "annotations"),
        known.find(kinds.NAMESPACE, "", deployment.namespace),
    )


def _in_mesh(spec: Any, labels: Mapping[str, str], annotations: Mapping[str, str], namespace: Resource | None) -> bool:
    if proxy_image(spec):
        return True
    for said in (labels, annotations):
        if INJECT in said:
            return said[INJECT] == "true"
    return namespace is not None and namespace.labels.get(INJECTION) == ENABLED


def pod_in_ambient(pod: Resource) -> bool:
    """Whether a pod is served by a node proxy instead of a sidecar."""
    return pod.annotations.get(_REDIRECTION) == ENABLED


def namespace_in_ambient(namespace: Resource | None) -> bool:
    """Whether a namespace's pods are served by node proxies."""
    if namespace is None or namespace.labels.get(INJECTION) == ENABLED or namespace.labels.get(REVISION):
        return False
    return namespace.labels.get(DATA_PLANE) == AMBIENT

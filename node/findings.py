"""What of the user's YAML has no effect on this machine, said when it is applied. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from node.objects import Document, Raw, key_of

_WORKLOADS = frozenset({("apps", "StatefulSet"), ("apps", "DaemonSet"), ("apps", "ReplicaSet")})
_WORKLOADS |= {("batch", "Job"), ("batch", "CronJob")}
_POD_FIELDS = (
    *("hostNetwork", "hostPID", "hostIPC", "hostAliases", "dnsConfig", "dnsPolicy", "shareProcessNamespace"),
    *("affinity", "tolerations", "topologySpreadConstraints", "priorityClassName", "activeDeadlineSeconds"),
)
_DEPLOYMENT_FIELDS = ("paused", "minReadySeconds")
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

KnownImage = Callable[[str], bool]


def _pod_of(raw: Raw) -> tuple[str, Mapping[str, Any]] | None:
    """(path, spec) of the pod that an object describes."""
    spec = raw.get("spec") or {}
    if raw["kind"] == "Pod":
        return "spec", spec
    if raw["kind"] == "Deployment":
        return "spec.template.spec", (spec.get("template") or {}).get("spec") or {}
    return None


def _container(container: Mapping[str, Any], path: str, known: KnownImage) -> Iterator[tuple[str, str]]:
    """(path, message) of each thing in a container that cannot be done here."""
    image = str(container.get("image") or "")
    if not known(image):
        yield f"{path}.image", f'image "{image}" stands for no command of this machine; the pod will not start'
    for number, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield f"{path}.ports[{number}].hostPort", "the port is open at the pod's address only"
    for probe in _PROBES:
        if "grpc" in (container.get(probe) or {}):
            yield f"{path}.{probe}.grpc", "probes over gRPC are not asked"


def _pod(path: str, spec: Mapping[str, Any], known: KnownImage) -> Iterator[tuple[str, str]]:
    """(path, message) of each thing in a pod that cannot be done here."""
    for field in _POD_FIELDS:
        if spec.get(field):
            yield f"{path}.{field}", "has no effect in a mesh on one machine"
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or ()):
            yield from _container(container, f"{path}.{kind}[{number}]", known)


def _deployment(raw: Raw) -> Iterator[tuple[str, str]]:
    """(path, message) of what a Deployment says in vain."""
    spec = raw.get("spec") or {}
    for field in _DEPLOYMENT_FIELDS:
        if spec.get(field):
            yield f"spec.{field}", "has no effect here"


def _service(raw: Raw) -> Iterator[tuple[str, str]]:
    """(path, message) of what a Service says in vain; what istiod has no use for, it says itself."""
    if (raw.get("spec") or {}).get("type") == "NodePort":
        yield "spec.type", "no port is open at the node: the Service has its cluster IP only"


def findings(document: Document, known: KnownImage) -> list[Diagnostic]:
    """What of an object has no effect on this machine."""
    key = key_of(document.raw)

    def no(field: str, message: str) -> Diagnostic:
        return diagnostic.warning(Code.NOT_SUPPORTED, key, field, message).at(document.at(field))

    if (key.group, key.kind) in _WORKLOADS:
        return [no("", f"a mesh on one machine runs no {key.kind}; use a Deployment")]
    told = list(_SAID.get((key.group, key.kind), _nothing)(document.raw))
    pod = _pod_of(document.raw)
    return [no(field, message) for field, message in (*told, *(_pod(*pod, known) if pod else ()))]


def _nothing(_: Raw) -> Iterator[tuple[str, str]]:
    return iter(())


_SAID = {("apps", "Deployment"): _deployment, ("", "Service"): _service}


def is_workload(document: Document) -> bool:
    """Whether the object describes pods in a way that is not run here; it means nothing to istiod either."""
    key = key_of(document.raw)
    return (key.group, key.kind) in _WORKLOADS

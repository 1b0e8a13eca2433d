"""``x describe``: a pod and the Services that lead to it, in the words of Istio's command. Lines without their ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from crds import core
from crds.meta import Object
from crds.pod_spec import PodSecurityContext, SecurityContext
from istiod.mesh import protocol
from wire import names

PROXY: Final = "istio-proxy"
_PROXY_USER: Final = 1337
_REQUIREMENTS: Final = "https://istio.io/latest/docs/ops/deployment/application-requirements/"
_NAME_LABELS: Final = (names.LABEL_CANONICAL_NAME, "app.kubernetes.io/name", "app")
_REVISION_LABELS: Final = (names.LABEL_CANONICAL_REVISION, "app.kubernetes.io/version", "version")


def called(item: Object, here: str) -> str:
    """NAME, with its namespace where that is another than ``here``."""
    meta = item.metadata
    return meta.name if meta.namespace == here else f"{meta.name}.{meta.namespace}"


def meshed(pod: core.Pod) -> bool:
    """Whether it has a sidecar, or is a gateway."""
    return any(each.name == PROXY for each in (*pod.spec.containers, *pod.spec.init_containers))


def runs(pod: core.Pod) -> bool:
    """Whether it is in the phase in which its proxy can be asked."""
    return pod.status.phase == "Running"


def pod(item: core.Pod, here: str) -> Iterator[str]:
    """The pod itself, and what speaks against its being part of the mesh."""
    name = called(item, here)
    if any(_user(each.security_context) == _PROXY_USER for each in item.spec.containers if each.name != PROXY):
        yield "WARNING: User ID (UID) 1337 is reserved for the sidecar proxy."
    yield f"Pod: {name}"
    yield f"   Pod Revision: {_revision(item)}"
    ports = [
        f"{port.container_port}{'' if port.protocol == 'TCP' else f'/{port.protocol}'} ({each.name})"
        for each in item.spec.containers
        for port in each.ports
    ]
    yield f"   Pod Ports: {', '.join(ports)}" if ports else "   Pod does not expose ports"
    if not runs(item):
        yield f"   Pod is not Running ({item.status.phase or 'Unknown'})"
        return
    for kind, statuses in (
        ("Container", item.status.container_statuses),
        ("Init Container", item.status.init_container_statuses),
    ):
        yield from (f"WARNING: Pod {name} {kind} {each.name} NOT READY" for each in statuses if not each.ready)


def remarks(item: core.Pod, here: str) -> Iterator[str]:
    """What a pod of the mesh should be like."""
    if not meshed(item):
        yield f"WARNING: {called(item, here)} is not part of mesh; no Istio sidecar"
        return
    if _user(item.spec.security_context) == _PROXY_USER:
        yield "   WARNING: User ID (UID) 1337 is reserved for the sidecar proxy."
    for wanted, what in ((_NAME_LABELS, "name"), (_REVISION_LABELS, "revision")):
        if not item.metadata.labels.keys() & set(wanted):
            yield f"Suggestion: add required service {what} label for Istio telemetry. See {_REQUIREMENTS}."


def service(item: core.Service, of: core.Pod, here: str) -> Iterator[str]:
    """A Service and its ports, as they lead to the pod."""
    yield f"Service: {called(item, here)}"
    for port in item.spec.ports:
        if port.protocol != "TCP":
            continue  # sidecars leave UDP alone
        number = target(port, of)
        if number is None:
            yield f"   Port: {port.name} {port.port} targets port {port.target_port!r}, which the pod does not have"
        else:
            yield f"   Port: {port.name} {port.port}/{_protocol(port)} targets pod port {number}"


def target(port: core.ServicePort, of: core.Pod) -> int | None:
    """The number of the pod's port to which a Service's leads; None where the pod has no port of that name."""
    said = port.target_port
    if said is None or isinstance(said, int):
        return said or port.port
    for container in (*of.spec.containers, *of.spec.init_containers):
        for each in container.ports:
            if (each.name, each.protocol) == (said, port.protocol):
                return each.container_port
    return None


def selected(item: core.Service, of: core.Pod) -> bool:
    """Whether a Service leads to the pod by its selector."""
    wanted = item.spec.selector
    return bool(wanted) and wanted.items() <= of.metadata.labels.items()


def _protocol(port: core.ServicePort) -> str:
    if not port.name and not port.app_protocol:
        return "auto-detect"
    return protocol.of_service_port(port.port, port.name, port.protocol, port.app_protocol).value


def _revision(item: core.Pod) -> str:
    """The revision of the control plane that injected the pod."""
    if said := item.metadata.annotations.get(names.LABEL_REVISION):
        return said
    try:
        status = json.loads(item.metadata.annotations.get("sidecar.istio.io/status", ""))
        return str(status["revision"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return item.metadata.labels.get(names.LABEL_REVISION, "")


def _user(context: SecurityContext | PodSecurityContext | None) -> int | None:
    return context.run_as_user if context else None

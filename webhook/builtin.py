"""The built-in templates as data: the part of a pod that each lays over it (features A6, A12 to A16). Pure.

What is in the containers is in proxy.py and capture.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from webhook import annotations as notes
from webhook import capture, proxy, templates, workload
from webhook.decision import items, part
from webhook.draft import Draft
from webhook.settings import Json
from wire import names

_NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
_PLUGIN: Final = {"name": "istio-cni", "namespace": "default"}


def sidecar(plan: Draft) -> Json:
    """The sidecar, and what redirects traffic to it."""
    mine, before = proxy.container(plan), [] if plan.mode == "NONE" else [capture.container(plan)]
    spec = {
        "initContainers": [*before, mine] if plan.native else before,
        "containers": [] if plan.native else [mine],
        **_common(plan),
    }
    labels = {names.LABEL_TLS_MODE: plan.labels.get(names.LABEL_TLS_MODE, "istio"), **_labels(plan)}
    return {"metadata": {"labels": labels, "annotations": {**_annotations(plan), **_plugin(plan)}}, "spec": spec}


def gateway(plan: Draft) -> Json:
    """A gateway: the pod's proxy serves others, so nothing is redirected."""
    security = dict(plan.config.gateway_security) or _unprivileged_ports(
        part(part(plan.pod, "spec"), "securityContext")
    )
    spec = {"containers": [proxy.container(plan)], "securityContext": security, **_common(plan)}
    return {"metadata": {"labels": _labels(plan), "annotations": _annotations(plan)}, "spec": spec}


BUILT_IN: Final[Mapping[str, Callable[[Draft], Json]]] = {templates.SIDECAR: sidecar, templates.GATEWAY: gateway}


def _labels(plan: Draft) -> Json:
    return {
        names.LABEL_CANONICAL_NAME: workload.canonical_name(plan.labels, plan.owner),
        names.LABEL_CANONICAL_REVISION: workload.canonical_revision(plan.labels),
    }


def _annotations(plan: Draft) -> Json:
    made: Json = {names.LABEL_REVISION: plan.config.revision}
    for default in ("default-container", "default-logs-container"):
        name = f"kubectl.kubernetes.io/{default}"
        if plan.containers and name not in plan.annotations:
            made[name] = str(plan.containers[0].get("name"))
    return made


def _common(plan: Draft) -> Json:
    """Volumes, but those that the pod has under the same name, and secrets for images."""
    taken = {each.get("name") for each in items(part(plan.pod, "spec").get("volumes"))}
    made: Json = {"volumes": [each for each in proxy.volumes(plan) if each["name"] not in taken]}
    if plan.config.image_pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in plan.config.image_pull_secrets]
    return made


def _unprivileged_ports(theirs: Mapping[str, object]) -> Json:
    """A gateway's Envoy listens on 80 and 443 as user 1337."""
    setting = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    others = [each for each in items(theirs.get("sysctls")) if each.get("name") != setting["name"]]
    return {"sysctls": [*others, setting]}


def _plugin(plan: Draft) -> Json:
    """Annotations that tell the network plugin what to redirect, in place of arguments of istio-init."""
    if not plan.config.cni:
        return {}
    made: Json = {f"{notes.SIDECAR}interceptionMode": plan.mode}
    made |= {f"{notes.TRAFFIC}{name}": value for name, value in capture.scope(plan).items() if value}
    if plan.config.multus:
        made[_NETWORKS] = _with_plugin(plan.annotations.get(_NETWORKS, ""))
    return made


def _with_plugin(networks: str) -> str:
    """The networks that Multus gives the pod, and the plugin; both forms of the annotation, a list and JSON."""
    name = f"{_PLUGIN['namespace']}/{_PLUGIN['name']}"
    if "[" not in networks:
        given = [each.strip() for each in networks.split(",") if each.strip()]
        return ", ".join(given if name in given else [*given, name])
    try:
        found = json.loads(networks)
    except (ValueError, RecursionError):
        return networks
    return networks if not isinstance(found, list) or _PLUGIN in found else json.dumps([*found, _PLUGIN])

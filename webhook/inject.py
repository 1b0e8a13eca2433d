"""Pod in, injected pod and JSON patch out (features A6, A12 to A16, S17, S24 to S28). Pure.

The HTTPS shell of the webhook, ``kube-inject`` and the local mesh call this. The pod is its own JSON form, because
fields that we do not know must survive. What stands in the containers is in proxy.py and capture.py.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from crds.diagnostic import Code, Diagnostic, Severity, error, warning
from crds.key import ConfigKey
from webhook import annotations as notes
from webhook import capture, decision, merge, metrics, patch, probes, proxy, workload
from webhook.decision import Decision, items, part
from webhook.draft import INIT, PROXY, Draft, draft
from webhook.settings import InjectionConfig, Json
from webhook.workload import Owner
from wire import names

_REWRITE_PROBES = f"{notes.SIDECAR}rewriteAppHTTPProbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """The answer for one pod. ``patch`` is an RFC 6902 list from the pod that came in to ``pod``."""

    pod: Mapping[str, object]
    patch: tuple[patch.Operation, ...]
    decision: Decision
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def refused(self) -> bool:
        """The pod must not be created: an annotation asks for what cannot be done."""
        return any(each.severity is Severity.ERROR for each in self.diagnostics)


def inject(
    pod: Mapping[str, object],
    config: InjectionConfig,
    namespace: str,
    namespace_labels: Mapping[str, str],
    owner: Owner | None = None,
) -> Injection:
    """Inject a pod, if it is to be injected.

    Args:
        pod: the pod as JSON.
        config: the injector's settings.
        namespace: where the pod will be; a pod under admission may not say it itself.
        namespace_labels: labels of that namespace.
        owner: the object the pod is made from, where that is known (kube-inject); else it is guessed from the pod.
    """
    answer = decision.decide(pod, config, namespace, namespace_labels)
    if not answer.inject:
        return Injection(pod=pod, patch=(), decision=answer)
    return render(pod, config, namespace, owner, answer)


def render(
    pod: Mapping[str, object],
    config: InjectionConfig,
    namespace: str,
    owner: Owner | None = None,
    answer: Decision = Decision(inject=True, reason="asked for"),  # noqa: B008 (frozen)
    of_namespace: Mapping[str, str] | None = None,
) -> Injection:
    """Inject a pod without asking whether it should be. ``of_namespace`` are the namespace's annotations."""
    metadata = part(pod, "metadata")
    annotations = decision.strings(metadata.get("annotations"))
    if decision.STATUS in annotations:
        return Injection(pod=pod, patch=(), decision=Decision(inject=False, reason="the pod has been injected already"))
    key = ConfigKey("", "Pod", namespace, workload.owner(pod).name)
    problems = (*notes.check(annotations, key), *_check_templates(annotations, config, key))
    if any(each.severity is Severity.ERROR for each in problems):
        return Injection(pod=pod, patch=(), decision=answer, diagnostics=problems)
    plan = draft(copy.deepcopy(dict(pod)), config, namespace, owner, of_namespace)
    result = _assemble(plan)
    return Injection(
        pod=result,
        patch=tuple(patch.diff(pod, result)),
        decision=answer,
        diagnostics=(*problems, *_same_user(plan, key)),
    )


def _check_templates(annotations: Mapping[str, str], config: InjectionConfig, key: ConfigKey) -> Iterator[Diagnostic]:
    field = f"metadata.annotations[{notes.TEMPLATES}]"
    for name in config.templates.named(annotations.get(notes.TEMPLATES, "")):
        if problem := config.templates.problem(name):
            yield error(Code.NOT_SUPPORTED, key, field, problem)


def _assemble(plan: Draft) -> Json:
    settings, probed = _with_agent(plan)
    mine = merge.overlay(proxy.container(plan), merge.written(plan.user))
    mine["env"] = [*_list(mine["env"]), *probed]
    if plan.mode == "TPROXY" and not plan.router:  # transparent sockets need it, whatever the user asked for
        mine["securityContext"] = {**part(mine, "securityContext"), "runAsUser": 0, "runAsNonRoot": False}
    iptables = [] if plan.router or plan.mode == "NONE" else [capture.container(plan)]
    containers, init = list(settings.containers), list(settings.init_containers)
    if plan.native:
        init = [*iptables, mine, *init]
    else:
        init = [*init, *iptables]  # last: until then the app's init containers reach the network without a proxy
        containers = [mine, *containers] if plan.holds_application and not plan.router else [*containers, mine]
    spec = dict(part(plan.pod, "spec"))
    spec["containers"] = containers
    if init:
        spec["initContainers"] = init
    theirs = list(items(spec.get("volumes")))
    taken = {each.get("name") for each in theirs}
    ours = proxy.volumes(plan)
    spec["volumes"] = [*(each for each in ours if each["name"] not in taken), *theirs]
    if secrets := [{"name": name} for name in plan.config.image_pull_secrets]:
        spec["imagePullSecrets"] = [*_list(spec.get("imagePullSecrets")), *secrets]
    if plan.router:
        spec["securityContext"] = _unprivileged_ports(part(spec, "securityContext"))
    return {
        **plan.pod,
        "metadata": _metadata(settings, [str(each["name"]) for each in ours], bool(iptables)),
        "spec": spec,
    }


def _with_agent(plan: Draft) -> tuple[Draft, list[object]]:
    """The app's probes and metrics sent through the agent, and the variables that tell the agent of it."""
    told: list[object] = []
    containers, init, annotations = plan.containers, plan.init_containers, dict(plan.annotations)
    if plan.config.rewrite_probes and plan.note(_REWRITE_PROBES, "true") == "true" and not plan.router:
        pairs = [probes.rewrite(container, plan.status_port) for container in plan.containers]
        containers = tuple(container for container, _ in pairs)
        # Init containers have probes only where they keep running.
        others = [probes.rewrite(container, plan.status_port) for container in plan.init_containers]
        init = tuple(container for container, _ in others)
        asked = {path: probe for _, probes_of in (*pairs, *others) for path, probe in probes_of.items()}
        if asked:
            text = json.dumps(asked, separators=(",", ":"), sort_keys=True)
            told.append({"name": "ISTIO_KUBE_APP_PROBERS", "value": text})
    if plan.config.merge_metrics:
        ours, app = metrics.rewrite(annotations, plan.metrics_port)
        annotations |= ours
        if app:
            annotations.pop(metrics.TARGETS, None)
            told.append({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": app})
    return replace(plan, containers=containers, init_containers=init, annotations=annotations), told


def _metadata(plan: Draft, volumes: list[str], iptables: bool) -> Json:  # noqa: FBT001 (private, one caller)
    labels = {
        names.LABEL_CANONICAL_NAME: workload.canonical_name(plan.labels, plan.owner),
        names.LABEL_CANONICAL_REVISION: workload.canonical_revision(plan.labels),
        **({} if plan.router else {names.LABEL_TLS_MODE: "istio"}),
        **plan.labels,
        **({names.LABEL_NETWORK: plan.config.path_network} if plan.config.path_network else {}),
    }
    annotations = {decision.REVISION: plan.config.revision, **plan.annotations}
    if plan.containers and not plan.router:
        for default in ("default-container", "default-logs-container"):
            annotations.setdefault(f"kubectl.kubernetes.io/{default}", str(plan.containers[0].get("name")))
    if user := {key: value for key, value in merge.written(plan.user).items() if value not in ({}, [])}:
        place = "initContainers" if plan.native else "containers"
        annotations[notes.OVERRIDES] = json.dumps({place: [user]}, separators=(",", ":"))
    annotations[decision.STATUS] = _status(plan, volumes, iptables=iptables)
    return {**part(plan.pod, "metadata"), "labels": labels, "annotations": annotations}


def _status(plan: Draft, volumes: list[str], *, iptables: bool) -> str:
    """What was added, in Istio's form; ``istioctl`` and a later injection read it."""
    init = [*([INIT] if iptables else []), *([PROXY] if plan.native else [])]
    status = {
        "initContainers": init or None,
        "containers": None if plan.native else [PROXY],
        "volumes": volumes,
        "imagePullSecrets": list(plan.config.image_pull_secrets) or None,
        "revision": plan.config.revision,
    }
    return json.dumps(status, separators=(",", ":"))


def _unprivileged_ports(theirs: Mapping[str, object]) -> Json:
    """A gateway's Envoy listens on 80 and 443 as user 1337."""
    setting = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    others = [each for each in items(theirs.get("sysctls")) if each.get("name") != setting["name"]]
    return {**theirs, "sysctls": [*others, setting]}


def _same_user(plan: Draft, key: ConfigKey) -> list[Diagnostic]:
    """Apps that run as the proxy's user or group: their traffic would not be captured (features S25, A26)."""
    if plan.router:
        return []
    found = []
    pod = part(part(plan.pod, "spec"), "securityContext")
    for index, container in enumerate(plan.containers):
        own = part(container, "securityContext")
        for field in ("runAsUser", "runAsGroup"):
            if own.get(field, pod.get(field)) == plan.uid:
                where = f"spec.containers[{index}].securityContext.{field}"
                message = f"{plan.uid} is the proxy's own id: traffic of this container bypasses the mesh"
                found.append(warning(Code.BAD_VALUE, key, where, message))
    return found


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []

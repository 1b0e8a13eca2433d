"""Pod in, injected pod and JSON patch out (features A6, A12 to A16, S17, S24 to S28). Pure.

The HTTPS shell of the webhook, ``kube-inject`` and the local mesh call this. The pod is its own JSON form, because
fields that we do not know must survive. What stands in the containers is in proxy.py and capture.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crds import proxy_annotation
from crds.diagnostic import Code, Diagnostic, Severity, error, warning
from crds.key import ConfigKey
from webhook import annotations as notes
from webhook import builtin, capture, decision, departure, images, metrics, patch, probes, strategic, workload
from webhook.decision import Decision, items, part
from webhook.draft import INIT, PROXY, Draft, draft
from webhook.settings import InjectionConfig, Json
from webhook.workload import Owner
from wire import names, variables

_ASKED_FOR: Final = Decision(inject=True, reason="asked for")
_APPS: Final = "containers"
_LISTS: Final = ("initContainers", _APPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """The answer for one pod. ``patch`` is an RFC 6902 list from the pod that came in to ``pod``.

    ``pod`` shares what did not change with the pod that came in: neither may be written to.
    """

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
    of_namespace: Mapping[str, str] | None = None,
) -> Injection:
    """Inject a pod, if it is to be injected.

    Args:
        pod: the pod as JSON.
        config: the injector's settings.
        namespace: where the pod will be; a pod under admission may not say it itself.
        namespace_labels: labels of that namespace.
        owner: the object the pod is made from, where that is known (kube-inject); else it is guessed from the pod.
        of_namespace: the namespace's annotations.
    """
    answer = decision.decide(pod, config, namespace, namespace_labels)
    if not answer.inject:
        return Injection(pod=pod, patch=(), decision=answer)
    return render(pod, config, namespace, owner, answer, of_namespace)


def render(
    pod: Mapping[str, object],
    config: InjectionConfig,
    namespace: str,
    owner: Owner | None = None,
    answer: Decision = _ASKED_FOR,
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
    plan = draft(pod, config, namespace, owner, of_namespace)
    if refused := tuple(images.check(plan, key)):
        return Injection(pod=pod, patch=(), decision=answer, diagnostics=(*problems, *refused))
    result = _assemble(plan)
    return Injection(
        pod=result,
        patch=tuple(patch.diff(pod, result)),
        decision=answer,
        diagnostics=(*problems, *_same_user(plan, key), *_in_vain(plan.pod, key)),
    )


def _check_templates(annotations: Mapping[str, str], config: InjectionConfig, key: ConfigKey) -> Iterator[Diagnostic]:
    field = f"metadata.annotations[{notes.TEMPLATES}]"
    for name in config.templates.named(annotations.get(notes.TEMPLATES, "")):
        if problem := config.templates.problem(name):
            yield error(Code.NOT_SUPPORTED, key, field, problem)


def _assemble(plan: Draft) -> Json:
    """Templates over the pod, what its user wrote over that, then what concerns the pod as a whole."""
    pod = _as_native(plan.pod) if plan.native else dict(plan.pod)
    added: Mapping[str, object] = {}
    for name in plan.config.templates.named(plan.annotations.get(notes.TEMPLATES, "")):
        theirs = plan.config.templates.overlays
        overlay = theirs[name] if name in theirs else builtin.BUILT_IN[name](plan)
        pod, added = strategic.merge(pod, overlay), strategic.merge(added, overlay) if added else overlay
    overrides = _overrides(plan, added)
    spec = {
        **part(pod, "spec"),
        **{place: _overridden(part(pod, "spec"), place, of) for place, of in overrides.items()},
    }
    pod = _with_agent(plan, {**pod, "spec": spec})
    return {**pod, "metadata": _metadata(plan, part(pod, "metadata"), added, overrides), "spec": _ordered(plan, pod)}


def _as_native(pod: Mapping[str, object]) -> Json:
    """The pod with the proxy that its user wrote where native sidecars are: among the init containers."""
    spec = part(pod, "spec")
    theirs = [each for each in items(spec.get("containers")) if each.get("name") == PROXY]
    if not theirs:
        return dict(pod)
    others = [each for each in items(spec.get("containers")) if each.get("name") != PROXY]
    return {
        **pod,
        "spec": {**spec, "containers": others, "initContainers": [*items(spec.get("initContainers")), *theirs]},
    }


def _overrides(plan: Draft, added: Mapping[str, object]) -> dict[str, list[Json]]:
    """What the user wrote of the containers that templates touch, by list: it wins over the templates (A7)."""
    spec = part(plan.pod, "spec")
    theirs = {
        str(each.get("name")): each for each in (*items(spec.get("initContainers")), *items(spec.get("containers")))
    }
    theirs |= {PROXY: plan.user} if plan.user else {}
    found: dict[str, list[Json]] = {}
    for place in _LISTS:
        for each in items(part(added, "spec").get(place)):
            if user := theirs.get(str(each.get("name"))):
                found.setdefault(place, []).append(_written(user))
    return found


def _overridden(spec: Mapping[str, object], place: str, overrides: list[Json]) -> list[Json]:
    by_name = {each.get("name"): each for each in overrides}
    # New variables last: one that speaks of $(POD_NAME) has to stand after that.
    return [
        strategic.merge(each, by_name[each.get("name")], last=True) if each.get("name") in by_name else dict(each)
        for each in items(spec.get(place))
    ]


def _written(container: Mapping[str, object]) -> Json:
    """What the user really wrote: without the placeholder image."""
    return {key: value for key, value in container.items() if not (key == "image" and value == images.AUTO)}


def _with_agent(plan: Draft, pod: Json) -> Json:
    """The app's probes and metrics sent through the agent, and the variables that tell the agent of it."""
    told: list[object] = []
    metadata, spec = part(pod, "metadata"), dict(part(pod, "spec"))
    annotations = decision.strings(metadata.get("annotations"))
    asks = notes.truth(annotations, notes.REWRITE_PROBES, default=plan.config.rewrite_probes)
    if asks and not plan.router and _has_proxy(spec):
        asked: dict[str, Json] = {}
        for place in _LISTS:  # init containers have probes only where they keep running
            pairs = [_rewritten(each, plan.agent_port) for each in items(spec.get(place))]
            spec[place] = [container for container, _ in pairs]
            asked |= {path: probe for _, probes_of in pairs for path, probe in probes_of.items()}
        if asked:
            text = json.dumps(asked, separators=(",", ":"), sort_keys=True)
            told.append({"name": "ISTIO_KUBE_APP_PROBERS", "value": text})
    changed: Mapping[str, str | None] = {}
    if notes.truth(annotations, notes.MERGE_METRICS, default=plan.config.merge_metrics):
        changed, app = metrics.rewrite(annotations, plan.metrics_port)
        told += [{"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": app}] if app else []
    said = {**annotations, **changed}
    kept = {name: value for name, value in said.items() if value is not None}
    if plan.departs and _has_proxy(spec):
        spec[_APPS] = [_holding(each, plan.agent_port) for each in items(spec.get(_APPS))]
    spec |= {place: [_told(each, told) for each in items(spec.get(place))] for place in _LISTS if place in spec}
    return {**pod, "metadata": {**metadata, "annotations": kept}, "spec": spec}


def _has_proxy(spec: Mapping[str, object]) -> bool:
    return any(each.get("name") == PROXY for place in _LISTS for each in items(spec.get(place)))


def _rewritten(container: Mapping[str, object], agent_port: int) -> tuple[Json, Mapping[str, Json]]:
    return (dict(container), {}) if container.get("name") == PROXY else probes.rewrite(container, agent_port)


def _holding(container: Mapping[str, object], agent_port: int) -> Json:
    return dict(container) if container.get("name") == PROXY else departure.holding(container, agent_port)


def _told(container: Mapping[str, object], told: list[object]) -> Json:
    if container.get("name") != PROXY or not told:
        return dict(container)
    return {**container, "env": [*_list(container.get("env")), *told]}


def _metadata(
    plan: Draft, metadata: Mapping[str, object], added: Mapping[str, object], overrides: Mapping[str, list[Json]]
) -> Json:
    of_network = {names.LABEL_NETWORK: plan.network} if plan.network else {}
    labels = {**decision.strings(metadata.get("labels")), **of_network}
    annotations = {**decision.strings(metadata.get("annotations")), **plan.config.injected_annotations}
    said = {place: [_said(each) for each in of] for place, of in overrides.items()}
    if kept := {place: of for place, of in said.items() if any(each.keys() - {"name"} for each in of)}:
        annotations[notes.OVERRIDES] = json.dumps(kept, separators=(",", ":"))
    annotations[decision.STATUS] = _status(plan, part(added, "spec"))
    return {**metadata, **({"labels": labels} if labels else {}), "annotations": annotations}


def _said(container: Mapping[str, object]) -> Json:
    return {key: value for key, value in container.items() if value not in ({}, [])}


def _status(plan: Draft, added: Mapping[str, object]) -> str:
    """What was added, in Istio's form; ``istioctl`` and a later injection read it."""
    lists = (*_LISTS, "volumes", "imagePullSecrets")
    status: Json = {place: [each.get("name") for each in items(added.get(place))] or None for place in lists}
    return json.dumps({**status, "revision": plan.config.revision}, separators=(",", ":"))


def _ordered(plan: Draft, pod: Mapping[str, object]) -> Json:
    """The containers in the order that lets the app start when its traffic can go where it should."""
    spec = dict(part(pod, "spec"))
    init, containers = list(items(spec.get("initContainers"))), list(items(spec.get("containers")))
    if any(each.get("name") == PROXY for each in init):
        init = _first(init, INIT, capture.VALIDATION, PROXY)
    else:  # rules last: until then the app's init containers reach the network without a proxy
        init = _last(_first(init, capture.VALIDATION), INIT)
    first = plan.holds_application and not plan.router
    containers = _first(containers, PROXY) if first else _last(containers, PROXY)
    if plan.mode == "TPROXY" and not plan.router:  # transparent sockets need it, whatever the user asked for
        init, containers = [_as_root(each) for each in init], [_as_root(each) for each in containers]
    spec |= {"initContainers": init, "containers": containers}
    return spec if init else {key: value for key, value in spec.items() if key != "initContainers"}


def _first(containers: list[Mapping[str, object]], *wanted: str) -> list[Mapping[str, object]]:
    return sorted(containers, key=lambda each: _place(each, wanted))


def _last(containers: list[Mapping[str, object]], wanted: str) -> list[Mapping[str, object]]:
    return sorted(containers, key=lambda each: each.get("name") == wanted)


def _place(container: Mapping[str, object], wanted: tuple[str, ...]) -> int:
    name = container.get("name")
    return wanted.index(name) if name in wanted else len(wanted)


def _as_root(container: Mapping[str, object]) -> Mapping[str, object]:
    if container.get("name") != PROXY:
        return container
    return {
        **container,
        "securityContext": {**part(container, "securityContext"), "runAsUser": 0, "runAsNonRoot": False},
    }


def _in_vain(pod: Mapping[str, object], key: ConfigKey) -> Iterator[Diagnostic]:
    """Variables of the user's own container istio-proxy that the agent does not know."""
    spec = part(pod, "spec")
    for place in _LISTS:
        for index, container in enumerate(items(spec.get(place))):
            if container.get("name") == PROXY:
                said = {str(one.get("name")): str(one.get("value", "")) for one in items(container.get("env"))}
                for name in variables.in_vain(said):
                    field = f"spec.{place}[{index}].env[{name}]"
                    yield warning(Code.NOT_SUPPORTED, key, field, proxy_annotation.IN_VAIN)


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

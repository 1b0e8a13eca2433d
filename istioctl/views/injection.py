"""Which webhooks inject a pod and why, and what of a cluster is injected: labels against selectors (row U2). Pure.

Words and columns are Istio's. What istiod itself decides once a webhook has asked it is ``webhook.decision``'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from istiod.analysis import selectors
from webhook import decision
from webhook.settings import Policy
from wire.names import LABEL_REVISION

Json = Mapping[str, Any]
Labels = Mapping[str, str]

WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
"""Where an API server has them."""
INJECTOR: Final = "sidecar-injector.istio.io"
"""How the name of each webhook ends that injects."""
DEACTIVATED: Final = {"matchLabels": {"istio.io/deactivated": "never-match"}}
"""The selector of webhooks that are not to be asked: ``istioctl tag set default`` writes it, as Istio's."""
_OF_ISTIO: Final = "istio.io"
_NAME: Final = "kubernetes.io/metadata.name"
_ENABLED: Final = "enabled"
_SELECTORS: Final = ("namespaceSelector", "objectSelector")
_OUTSIDE: Final = "<non-Istio>"
_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one configuration's webhooks inject a pod."""

    webhook: str
    revision: str
    injected: bool
    reason: str

    def row(self) -> tuple[str, ...]:
        """A row of the table."""
        return self.webhook, self.revision, "✔" if self.injected else "✘", self.reason


def verdicts(configurations: Iterable[Json], namespace: Labels, pod: Json, where: str) -> list[Verdict]:
    """What each of Istio's configurations makes of a pod in namespace ``where`` with these labels, by name."""
    found = []
    for each in sorted(configurations, key=_name):
        hooks = _hooks(each)
        if any(str(hook.get("name", "")).endswith(_OF_ISTIO) for hook in hooks):
            injected, reason = _judged(hooks, namespace, _labels(pod))
            if injected and not (said := decision.required(pod, _POLICY, where)).inject:
                injected, reason = False, f"{reason}, but {said.reason}"
            found.append(Verdict(webhook=_name(each), revision=revision(each), injected=injected, reason=reason))
    return found


def injectors(configurations: Iterable[Json]) -> list[Json]:
    """The configurations that inject, by name."""
    found = (
        each for each in configurations if any(str(hook.get("name", "")).endswith(INJECTOR) for hook in _hooks(each))
    )
    return sorted(found, key=_name)


def revision(item: Json) -> str:
    """The revision that an object says it is of; "" if none."""
    return _labels(item).get(LABEL_REVISION, "")


def namespaces(items: Iterable[Json], root: str, only: str) -> list[Json]:
    """Those that a mesh may inject, by name: not Kubernetes' own, nor the control plane's."""
    left_out = {*_POLICY.ignored_namespaces, root}
    kept = (each for each in items if _name(each) not in left_out and only in {"", _name(each)})
    return sorted(kept, key=_name)


def counted(
    spaces: Iterable[Json], hooks: Sequence[Json], pods: Mapping[str, Sequence[Json]]
) -> Iterator[Sequence[str]]:
    """Rows of NAMESPACE, ISTIO-REVISION and POD-REVISIONS: what new pods would get, and what those that run have."""
    for space in spaces:
        name, wanted = _name(space), _wanted(space, hooks)
        by_revision: dict[str, list[Json]] = {}
        for pod in pods.get(name, ()):
            by_revision.setdefault(_injected(pod), []).append(pod)
        if not by_revision and wanted:
            yield name, wanted, "<no pods>"
        for injected, those in sorted(by_revision.items()):
            yield name, wanted, f"{injected or _OUTSIDE}: {_count(those, stale=injected != wanted)}"


def hooked(spaces: Sequence[Json], hooks: Iterable[Json], images: Mapping[str, str]) -> Iterator[Sequence[str]]:
    """Rows of NAMESPACES, INJECTOR-HOOK, ISTIO-REVISION and SIDECAR-IMAGE: what each configuration injects."""
    for hook in hooks:
        asked = [_name(each) for each in spaces if _by_itself(hook, _labels(each))]
        for name in asked or ["DOES NOT AUTOINJECT"]:
            yield name, _name(hook), revision(hook), images.get(revision(hook), "")


def _judged(hooks: Sequence[Json], namespace: Labels, pod: Labels) -> tuple[bool, str]:
    for hook in hooks:
        if _asks(hook, namespace, pod):
            return True, _why(hook, namespace, pod)
    return False, next(chain.from_iterable(_obstacles(each, namespace, pod) for each in hooks), "") or _unmatched(hooks)


def _asks(hook: Json, namespace: Labels, pod: Labels) -> bool:
    return all(
        selectors.matches(hook.get(name) or {}, labels)
        for name, labels in zip(_SELECTORS, (namespace, pod), strict=True)
    )


def _why(hook: Json, namespace: Labels, pod: Labels) -> str:
    found = [
        f"{whose} label {label} matches"
        for whose, name, labels in zip(("Namespace", "pod"), _SELECTORS, (namespace, pod), strict=True)
        if (label := _named(hook.get(name) or {}, labels))
    ]
    said = ", and ".join(found) or "No label of namespace or pod prevents injection"
    return said[0].upper() + said[1:]


def _named(selector: Json, labels: Labels) -> str:
    """The first label that a selector speaks of; names of namespaces only where it asks for one."""
    for key in selector.get("matchLabels") or {}:
        return f"{key}={labels[key]}"
    for each in _expressions(selector):
        key, operator = each.get("key", ""), each.get("operator")
        if key in labels and (operator == "In" or (operator == "NotIn" and key != _NAME)):
            return f"{key}={labels[key]}"
    return ""


def _obstacles(hook: Json, namespace: Labels, pod: Labels) -> Iterator[str]:
    """Labels that keep a webhook from being asked, where everything else would let it."""
    of_namespace, of_pod = (hook.get(name) or {} for name in _SELECTORS)
    if selectors.matches(of_namespace, namespace):
        yield from (f"Pod has {label} label, preventing injection" for label in _against(of_pod, pod))
    elif selectors.matches(of_pod, pod):
        for label in _against(of_namespace, namespace):
            key, _, value = label.partition("=")
            if key == _NAME or (key == decision.NAMESPACE_INJECTION and value != _ENABLED):
                yield f"Namespace has {label} label, preventing injection"


def _against(selector: Json, labels: Labels) -> Iterator[str]:
    for each in _expressions(selector):
        key, operator = each.get("key", ""), each.get("operator")
        if key not in labels:
            continue
        if operator == "DoesNotExist" or (operator == "NotIn" and labels[key] in (each.get("values") or ())):
            yield f"{key}={labels[key]}"


def _unmatched(hooks: Sequence[Json]) -> str:
    if any(all(hook.get(name) == DEACTIVATED for name in _SELECTORS) for hook in hooks):
        return "The injection webhook is deactivated, and will never match labels."
    of_namespace, of_pod = (", ".join(_wishes(hooks, name)) for name in _SELECTORS)
    return f"No matching namespace labels ({of_namespace}) or pod labels ({of_pod})"


def _wishes(hooks: Iterable[Json], name: str) -> Iterator[str]:
    for hook in hooks:
        for each in _expressions(hook.get(name) or {}):
            if each.get("operator") == "In":
                yield from (f"{each.get('key')}={value}" for value in each.get("values") or ())


def _by_itself(configuration: Json, namespace: Labels) -> bool:
    """Whether a pod without a label of its own is injected."""
    return any(_asks(hook, namespace, {}) for hook in _hooks(configuration))


def _wanted(space: Json, hooks: Iterable[Json]) -> str:
    """The revision that pods of a namespace get, "" for none, or what is missing for the one that it asks for."""
    labels = _labels(space)
    for each in hooks:
        if _by_itself(each, labels):
            return revision(each)
    if asked := labels.get(LABEL_REVISION):
        return f"MISSING/{asked}"
    injection = labels.get(decision.NAMESPACE_INJECTION)
    return "" if injection in {None, "disabled"} else f"MISSING/{decision.NAMESPACE_INJECTION}"


def _injected(pod: Json) -> str:
    """The revision that a pod was injected by; "" if none."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    try:
        found = json.loads(annotations.get(decision.STATUS, ""))
    except (ValueError, RecursionError):
        return ""
    return str(found.get("revision") or "") if isinstance(found, Mapping) else ""


def _count(pods: Sequence[Json], *, stale: bool) -> str:
    disabled = sum(_refuses(each) for each in pods)
    late = len(pods) - disabled if stale else 0
    return "".join(
        (
            str(len(pods)),
            f" (injection disabled: {disabled})" if disabled else "",
            f" NEEDS RESTART: {late}" if late else "",
        )
    )


def _refuses(pod: Json) -> bool:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    said = _labels(pod).get(decision.INJECT, annotations.get(decision.INJECT, ""))
    return str(said).lower() == "false"


def _hooks(configuration: Json) -> Sequence[Json]:
    return configuration.get("webhooks") or ()


def _expressions(selector: Json) -> Sequence[Json]:
    return selector.get("matchExpressions") or ()


def _labels(item: Json) -> Labels:
    return (item.get("metadata") or {}).get("labels") or {}


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])

"""Whether a pod is injected, and which rule says so (features A2 to A5, A28). Pure.

The order is Istio's: first what its four webhooks select by the labels of namespace and pod, then the policy inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from webhook.settings import InjectionConfig, Policy
from wire.names import LABEL_REVISION

INJECT = "sidecar.istio.io/inject"
STATUS = "sidecar.istio.io/status"
NAMESPACE_INJECTION = "istio-injection"


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, and why, in one sentence for people."""

    inject: bool
    reason: str


def decide(
    pod: Mapping[str, object],
    config: InjectionConfig,
    namespace: str,
    namespace_labels: Mapping[str, str],
) -> Decision:
    """The decision for a pod about to be created in a namespace with these labels."""
    labels = strings(part(pod, "metadata").get("labels"))
    selected = _selected(labels, config, namespace_labels)
    return required(pod, config.policy, namespace) if selected.inject else selected


def _selected(labels: Mapping[str, str], config: InjectionConfig, namespace: Mapping[str, str]) -> Decision:
    """What the label selectors of the webhooks say: revision or istio-injection of the namespace, then the pod."""
    if labels.get(INJECT) == "false":
        return Decision(inject=False, reason=f'the pod\'s label {INJECT} is "false"')
    injection, revision = namespace.get(NAMESPACE_INJECTION), namespace.get(LABEL_REVISION)
    if injection is not None:
        return Decision(injection == "enabled", f'the namespace\'s label {NAMESPACE_INJECTION} is "{injection}"')
    wanted = revision if revision is not None else labels.get(LABEL_REVISION)
    if wanted is not None:
        whose = "namespace" if revision is not None else "pod"
        return Decision(wanted == config.revision, f"the {whose}'s label {LABEL_REVISION} asks for revision {wanted}")
    if labels.get(INJECT) == "true":
        return Decision(inject=True, reason=f'the pod\'s label {INJECT} is "true"')
    return Decision(
        config.policy.namespaces_by_default,
        f"neither namespace nor pod asks for it (label {NAMESPACE_INJECTION}, {LABEL_REVISION} or {INJECT})",
    )


def required(pod: Mapping[str, object], policy: Policy, namespace: str) -> Decision:
    """The policy for a pod that a webhook has been asked about."""
    metadata = part(pod, "metadata")
    labels, annotations = strings(metadata.get("labels")), strings(metadata.get("annotations"))
    if part(pod, "spec").get("hostNetwork") is True:
        return Decision(inject=False, reason="a pod on the host's network would redirect the host's own traffic")
    if namespace in policy.ignored_namespaces:
        return Decision(inject=False, reason=f"pods in namespace {namespace} are never injected")
    kind, asked = ("label", labels[INJECT]) if INJECT in labels else ("annotation", annotations.get(INJECT))
    if asked in {"true", "false"}:
        return Decision(asked == "true", f'the pod\'s {kind} {INJECT} is "{asked}"')
    if any(selects(selector, labels) for selector in policy.never):
        return Decision(inject=False, reason="a neverInjectSelector matches the pod")
    if any(selects(selector, labels) for selector in policy.always):
        return Decision(inject=True, reason="an alwaysInjectSelector matches the pod")
    return Decision(policy.enabled, f"the injection policy is {'enabled' if policy.enabled else 'disabled'}")


def selects(selector: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions) matches. An empty one selects nothing, as in Istio."""
    wanted = strings(selector.get("matchLabels"))
    expressions = list(items(selector.get("matchExpressions")))
    if not wanted and not expressions:
        return False
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def _holds(expression: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    key, operator, values = str(expression.get("key")), expression.get("operator"), expression.get("values")
    among = key in labels and isinstance(values, list) and labels[key] in values
    operators = {
        "In": among,
        "NotIn": not among,  # codespell:ignore
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return operators.get(str(operator), False)


def part(mapping: Mapping[str, object], key: str) -> Mapping[str, object]:
    """A nested object; empty where there is none or where it is something else."""
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}


def strings(value: object) -> Mapping[str, str]:
    """Labels or annotations."""
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, Mapping) else {}


def items(value: object) -> Iterable[Mapping[str, object]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []

"""webhook/decision.py: which rule decides."""

from __future__ import annotations

import pytest

from webhook import decision
from webhook.settings import InjectionConfig, Policy
from wire.names import LABEL_REVISION

ON = {"istio-injection": "enabled"}
CONFIG = InjectionConfig()


def decide(
    labels: dict[str, str] | None = None,
    namespace_labels: dict[str, str] | None = None,
    config: InjectionConfig = CONFIG,
    namespace: str = "demo",
    **spec: object,
) -> tuple[bool, str]:
    pod = {"metadata": {"labels": labels or {}}, "spec": spec}
    answer = decision.decide(pod, config, namespace, namespace_labels or {})
    return answer.inject, answer.reason


POLICY = "the injection policy is enabled"
NOBODY = "neither namespace nor pod asks for it (label istio-injection, istio.io/rev or sidecar.istio.io/inject)"
OFF = {"istio-injection": "disabled"}
DISABLED = 'the namespace\'s label istio-injection is "disabled"'


@pytest.mark.parametrize(
    ("labels", "namespace", "expected"),
    [
        ({}, ON, (True, POLICY)),
        ({}, OFF, (False, DISABLED)),
        ({}, {}, (False, NOBODY)),
        ({decision.INJECT: "true"}, {}, (True, 'the pod\'s label sidecar.istio.io/inject is "true"')),
        ({decision.INJECT: "true"}, OFF, (False, DISABLED)),
        ({decision.INJECT: "false"}, ON, (False, 'the pod\'s label sidecar.istio.io/inject is "false"')),
        ({LABEL_REVISION: "default"}, {}, (True, POLICY)),
        ({LABEL_REVISION: "canary"}, {}, (False, "the pod's label istio.io/rev asks for revision canary")),
        ({}, {LABEL_REVISION: "default"}, (True, POLICY)),
        (
            {LABEL_REVISION: "default"},
            {LABEL_REVISION: "old"},
            (False, "the namespace's label istio.io/rev asks for revision old"),
        ),
    ],
)
def test_labels_of_namespace_and_pod_select(
    labels: dict[str, str],
    namespace: dict[str, str],
    expected: tuple[bool, str],
) -> None:
    assert decide(labels, namespace) == expected


def test_a_mesh_may_inject_by_default() -> None:
    assert decide(config=InjectionConfig(policy=Policy(namespaces_by_default=True)))[0]


def test_pods_on_the_hosts_network_and_system_namespaces_are_left_alone() -> None:
    assert decide(namespace_labels=ON, hostNetwork=True) == (
        False,
        "a pod on the host's network would redirect the host's own traffic",
    )
    assert decide(namespace_labels=ON, namespace="kube-system") == (
        False,
        "pods in namespace kube-system are never injected",
    )


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "app", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "app", "operator": "NotIn", "values": ["a"]}, False),  # codespell:ignore
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
        ({"key": "app", "operator": "Near"}, False),
    ],
)
def test_selectors_choose_as_kubernetes_does(expression: dict[str, object], *, matches: bool) -> None:
    policy = Policy(enabled=False, always=({"matchLabels": {"tier": "x"}, "matchExpressions": [expression]},))
    config = InjectionConfig(policy=policy)
    assert decide({"app": "a", "tier": "x"}, ON, config)[0] is matches
    assert not decide({"app": "a"}, ON, config)[0]


def test_never_goes_before_always_and_an_empty_selector_selects_nothing() -> None:
    both = Policy(never=({"matchLabels": {"a": "1"}},), always=({"matchLabels": {"a": "1"}},))
    assert decide({"a": "1"}, ON, InjectionConfig(policy=both)) == (False, "a neverInjectSelector matches the pod")
    assert decide({"a": "1"}, ON, InjectionConfig(policy=Policy(never=({},))))[0]

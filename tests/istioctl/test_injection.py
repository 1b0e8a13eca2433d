"""check-inject and injector list without a cluster: labels against selectors, pods against what new ones get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from istioctl.views import injection
from webhook import inject
from webhook.settings import InjectionConfig
from webhook.workload import Owner

REV, INJECT, ISTIO = "istio.io/rev", "sidecar.istio.io/inject", "istio-injection"


def absent(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "DoesNotExist"}


def among(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def hook(name: str, namespace: Any, pod: Any) -> dict[str, Any]:
    system = among("kubernetes.io/metadata.name", "kube-system", operator="NotIn")
    return {
        "name": f"{name}.sidecar-injector.istio.io",
        "namespaceSelector": {"matchExpressions": [*namespace, system]},
        "objectSelector": {"matchExpressions": pod},
    }


def configuration(revision: str, *more: dict[str, Any]) -> dict[str, Any]:
    willing = among(INJECT, "false", operator="NotIn")
    hooks = [
        hook("rev.namespace", [among(REV, revision), absent(ISTIO)], [willing]),
        hook("rev.object", [absent(REV), absent(ISTIO)], [willing, among(REV, revision)]),
        *more,
    ]
    return {"metadata": {"name": f"injector-{revision}", "labels": {REV: revision}}, "webhooks": hooks}


PLAIN = configuration(
    "default",
    hook("namespace", [among(ISTIO, "enabled")], [among(INJECT, "false", operator="NotIn")]),
    hook("object", [absent(ISTIO), absent(REV)], [among(INJECT, "true"), absent(REV)]),
)
AUTO = configuration("auto", hook("auto", [absent(ISTIO), absent(REV)], [absent(INJECT), absent(REV)]))
BY_LABELS = {
    "metadata": {"name": "own"},
    "webhooks": [{"name": "x.istio.io", "namespaceSelector": {"matchLabels": {"team": "shop"}}}],
}
NEVER = {
    "metadata": {"name": "off"},
    "webhooks": [
        {"name": "x.istio.io", "namespaceSelector": injection.DEACTIVATED, "objectSelector": injection.DEACTIVATED}
    ],
}


@pytest.mark.parametrize(
    ("config", "namespace", "labels", "injected", "reason"),
    [
        (PLAIN, {ISTIO: "enabled"}, {}, True, "Namespace label istio-injection=enabled matches"),
        (
            PLAIN,
            {REV: "default"},
            {INJECT: "true"},
            True,
            "Namespace label istio.io/rev=default matches, and pod label sidecar.istio.io/inject=true matches",
        ),
        (PLAIN, {}, {INJECT: "true"}, True, "Pod label sidecar.istio.io/inject=true matches"),
        (AUTO, {}, {}, True, "No label of namespace or pod prevents injection"),
        (BY_LABELS, {"team": "shop"}, {}, True, "Namespace label team=shop matches"),
        (
            PLAIN,
            {ISTIO: "enabled"},
            {INJECT: "false"},
            False,
            "Pod has sidecar.istio.io/inject=false label, preventing injection",
        ),
        (
            PLAIN,
            {ISTIO: "disabled"},
            {REV: "default"},
            False,
            "Namespace has istio-injection=disabled label, preventing injection",
        ),
        (
            PLAIN,
            {ISTIO: "enabled", "kubernetes.io/metadata.name": "kube-system"},
            {},
            False,
            "Namespace has kubernetes.io/metadata.name=kube-system label, preventing injection",
        ),
        (
            configuration("canary"),
            {ISTIO: "enabled"},
            {},
            False,
            "No matching namespace labels (istio.io/rev=canary) or pod labels (istio.io/rev=canary)",
        ),
        (NEVER, {ISTIO: "enabled"}, {}, False, "The injection webhook is deactivated, and will never match labels."),
    ],
)
def test_a_verdict_names_the_label_that_decides(
    config: dict[str, Any], namespace: dict[str, str], labels: dict[str, str], *, injected: bool, reason: str
) -> None:
    (said,) = injection.verdicts([config], namespace, {"metadata": {"labels": labels}}, "demo")
    assert (said.injected, said.reason) == (injected, reason)
    assert said.row()[2] == ("✔" if injected else "✘")


def test_what_istiod_will_refuse_is_not_injected_whatever_its_labels_say() -> None:
    pod = {"metadata": {}, "spec": {"hostNetwork": True}}
    (said,) = injection.verdicts([PLAIN], {ISTIO: "enabled"}, pod, "demo")
    assert not said.injected
    assert said.reason.startswith("Namespace label istio-injection=enabled matches, but a pod on the host's network")


def test_other_peoples_webhooks_are_left_out() -> None:
    other = {"metadata": {"name": "other"}, "webhooks": [{"name": "policy.example.com"}]}
    assert injection.verdicts([other, {"metadata": {"name": "empty"}}], {}, {}, "demo") == []
    assert injection.injectors([other, AUTO, BY_LABELS, PLAIN]) == [AUTO, PLAIN]


def pod(revision: str = "", **labels: str) -> dict[str, Any]:
    status = {"sidecar.istio.io/status": json.dumps({"revision": revision})} if revision else {}
    return {
        "metadata": {"annotations": status, "labels": {key.replace("_", "/"): value for key, value in labels.items()}}
    }


def space(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def test_pods_of_another_revision_than_new_ones_get_need_a_restart() -> None:
    spaces = [
        space("a", **{ISTIO: "enabled"}),
        space("b", **{REV: "canary"}),
        space("c", **{ISTIO: "disabled"}),
        space("d", **{ISTIO: "on"}),
        space("e", **{REV: "default"}),
    ]
    refusing = {"metadata": {"labels": {INJECT: "false"}, "annotations": {"sidecar.istio.io/status": "[]"}}}
    broken = {"metadata": {"annotations": {"sidecar.istio.io/status": "{"}}}
    pods = {"a": [pod("default"), pod("old"), pod("old"), refusing, broken], "b": [pod("canary")], "c": [pod()]}
    assert list(injection.counted(spaces, [PLAIN], pods)) == [
        ("a", "default", "<non-Istio>: 2 (injection disabled: 1) NEEDS RESTART: 1"),
        ("a", "default", "default: 1"),
        ("a", "default", "old: 2 NEEDS RESTART: 2"),
        ("b", "MISSING/canary", "canary: 1 NEEDS RESTART: 1"),
        ("c", "", "<non-Istio>: 1"),
        ("d", "MISSING/istio-injection", "<no pods>"),
        ("e", "default", "<no pods>"),
    ]
    assert list(injection.hooked(spaces, [PLAIN, configuration("x")], {"default": "proxyv2:1"})) == [
        ("a", "injector-default", "default", "proxyv2:1"),
        ("e", "injector-default", "default", "proxyv2:1"),
        ("DOES NOT AUTOINJECT", "injector-x", "x", ""),
    ]


def test_what_the_webhook_makes_counts_for_its_revision_and_is_still_found_to_be_injected() -> None:
    bare = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
    made = inject.render(bare, InjectionConfig(revision="canary"), "b", Owner("apps/v1", "Deployment", "web")).pod
    spaces, hooks = [space("b", **{REV: "prod"})], [configuration("prod")]
    hooks[0]["metadata"]["labels"][REV] = "canary"  # a tag: its webhook is asked by one name and belongs to another
    assert list(injection.counted(spaces, hooks, {"b": [made]})) == [("b", "canary", "canary: 1")]
    (said,) = injection.verdicts(hooks, {REV: "prod"}, made, "b")
    assert (said.injected, said.revision) == (True, "canary")


def test_namespaces_of_kubernetes_and_of_the_control_plane_are_left_out() -> None:
    items = [space("b"), space("kube-system"), space("istio-system"), space("a")]
    assert [each["metadata"]["name"] for each in injection.namespaces(items, "istio-system", "")] == ["a", "b"]
    assert injection.namespaces(items, "istio-system", "b") == [items[0]]

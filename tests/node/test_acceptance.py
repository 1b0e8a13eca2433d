"""What an API server would refuse is refused here, too: the mesh on this machine must not stop for one wrong object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node import acceptance, objects
from node.objects import Raw

CONTAINER: Raw = {"name": "app", "image": "busybox"}


def refused(kind: str, spec: Any) -> list[str]:
    version = "apps/v1" if kind == "Deployment" else "v1"
    raw = {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    [document], _ = objects.read(json.dumps(raw, indent=1), "f")
    return [str(each) for each in acceptance.refusals(document)]


def deployment(**more: Any) -> Raw:
    return {"template": {"spec": {"containers": [CONTAINER]}}, **more}


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("Deployment", deployment(replicas="two"), "spec.replicas"),
        ("Deployment", deployment(strategy="Recreate"), "spec"),
        ("Deployment", deployment(strategy={"rollingUpdate": {"maxSurge": "some"}}), "spec"),
        ("Deployment", {"template": {"spec": {"containers": CONTAINER}}}, "spec.template.spec.containers"),
        (
            "Deployment",
            {"template": {"spec": {"containers": [{"image": "busybox"}]}}},
            "spec.template.spec.containers[0].name",
        ),
        ("Pod", "text", "spec"),
        ("Pod", {"containers": [CONTAINER | {"env": [{"value": "x"}]}]}, "spec.containers[0].env[0].name"),
        ("Pod", {"containers": [CONTAINER | {"env": [{"name": "A", "value": 1}]}]}, "spec.containers[0].env[0].value"),
        ("Pod", {"containers": [CONTAINER | {"ports": [{"name": "x"}]}]}, "spec.containers[0].ports[0].containerPort"),
        (
            "Pod",
            {"containers": [CONTAINER | {"volumeMounts": [{"name": "x"}]}]},
            "spec.containers[0].volumeMounts[0].mountPath",
        ),
        ("Pod", {"containers": [CONTAINER], "volumes": [{"emptyDir": {}}]}, "spec.volumes[0].name"),
        ("Pod", {"containers": [CONTAINER], "volumes": [{"name": "x", "configMap": "y"}]}, "spec"),
        ("Service", {"ports": 80}, "spec.ports"),
        ("Service", {"ports": [{"name": "http"}]}, "spec.ports[0].port"),
        ("Service", {"ports": [{"port": 80, "protocol": "HTTP"}]}, "spec.ports[0].protocol"),
        ("Service", {"ports": [{"port": 80}], "clusterIP": "fd00::1"}, "spec.clusterIP"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_field(kind: str, spec: Any, field: str) -> None:
    [finding] = refused(kind, spec)
    assert finding.split(": ")[0].endswith(f" {kind}/default/a {field}")


def test_what_can_be_run_is_not_refused() -> None:
    assert refused("Deployment", deployment(replicas=2, strategy={"rollingUpdate": {"maxSurge": "50%"}})) == []
    volumes = [{"name": "x", "configMap": {"name": "y"}}, {"name": "z", "emptyDir": {}}]
    container = CONTAINER | {"volumeMounts": [{"name": "x", "mountPath": "/x"}], "env": [{"name": "A", "value": "1"}]}
    assert refused("Pod", {"containers": [container], "volumes": volumes}) == []
    assert refused("Service", {"ports": [{"port": 80}], "selector": {"app": "a"}}) == []


def test_configuration_is_judged_by_istiod_alone() -> None:
    raw = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a"}, "spec": 1}
    [document], _ = objects.read(json.dumps(raw), "f")
    assert acceptance.refusals(document) == []
    assert [each.field for each in acceptance.findings(document)] == ["spec"]


def test_of_a_policy_that_cannot_be_read_is_said_what_stands_for_it() -> None:
    text = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a}, spec: {rules: 1}}"
    [document], _ = objects.read(text, "f")
    [finding] = acceptance.findings(document)
    assert "until it can be read, the workloads that it selects refuse" in finding.message

"""Every value that the chart istiod offers has an effect: on an object or on injection. Real helm; no cluster."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.charts import helm
from webhook import values
from webhook.settings import InjectionConfig

pytestmark = pytest.mark.apiserver  # of its programs helm is one

OFFERED = yaml.safe_load((helm.CHARTS / "istiod/values.yaml").read_text())["_internal_defaults_do_not_set"]
# Another value where not any one of its kind will do.
OTHERS: Mapping[str, Any] = {
    "global.imagePullSecrets": ["other"],
    "global.proxy_init.image": "a.b/init:1",
    "global.proxy.autoInject": "disabled",
    "global.proxy.includeIPRanges": "10.0.0.0/8",
    "global.proxy.excludeIPRanges": "10.0.0.0/8",
    **{
        f"global.proxy.{kind}{way}Ports": "80"
        for kind, way in (
            ("include", "Inbound"),
            ("exclude", "Inbound"),
            ("include", "Outbound"),
            ("exclude", "Outbound"),
        )
    },
    "pilot.memory": {"targetAverageUtilization": 80},
    "pilot.cni.provider": "multus",
    "pilot.envVarFrom": [{"name": "X", "value": "y"}],
    "global.platform": "openshift",
    "platform": "openshift",
    "sidecarInjectorWebhook.neverInjectSelector": [{"matchLabels": {"a": "b"}}],
    "sidecarInjectorWebhook.alwaysInjectSelector": [{"matchLabels": {"a": "b"}}],
    "sidecarInjectorWebhook.allowedProxyImages": ["registry.example.org/*"],
    "sidecarInjectorWebhook.defaultTemplates": ["gateway"],
    "sidecarInjectorWebhook.templates": {"mine": "spec: {}"},
}
# Has a test of its own (test_istiod.py).
REFUSED = ("global.multiCluster.clusterName",)
# What has to be said, too, before it counts.
BESIDE: Mapping[str, Mapping[str, Any]] = {
    "global.defaultResources": {"pilot": {"resources": None}},
    "pilot.replicaCount": {"pilot": {"autoscaleEnabled": False}},
    "pilot.cni.provider": {"pilot": {"cni": {"enabled": True}}},
    "pilot.cni.chained": {"pilot": {"cni": {"enabled": True}}},
}


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def another(value: Any) -> Any:
    """Some other value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}0"
    return ["other"] if isinstance(value, list) else {"other": "one"}


@functools.cache
def outcome(written: str) -> tuple[list[helm.Object], InjectionConfig | None]:
    """The objects, and what the injector makes of its own. ``written`` are values in JSON."""
    made = helm.render("istiod", json.loads(written))
    injectors = [each for each in made if each["kind"] == "ConfigMap" and "injector" in each["metadata"]["name"]]
    read = [values.from_values(values.Texts(**each["data"])) for each in injectors]
    assert [each.diagnostics for each in read if each.diagnostics] == []
    return [each for each in made if each not in injectors], next((each.config for each in read), None)


# Each costs a start of helm.
@pytest.mark.parametrize(("path", "value"), [each for each in leaves(OFFERED) if each[0] not in REFUSED])
def test_a_value_has_an_effect(path: str, value: object) -> None:
    beside = next((BESIDE[key] for key in BESIDE if path.startswith(key)), {})
    written = helm.merged(beside, helm.nested(path, OTHERS.get(path, another(value))))

    assert outcome(json.dumps(written)) != outcome(json.dumps(beside))

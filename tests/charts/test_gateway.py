"""What the charts gateway and base make of their users' values. Real helm; no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from crds.schema import definition
from tests.charts import helm

pytestmark = pytest.mark.apiserver
NAME = "istio-ingressgateway"


def gateway(values: Mapping[str, Any] | None = None) -> list[helm.Object]:
    return helm.render("gateway", values, release=NAME, namespace="istio-ingress")


def test_its_pods_are_what_injection_and_gateway_objects_look_for() -> None:
    made = gateway()
    pod = helm.one(made, "Deployment")["spec"]["template"]

    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    assert pod["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway"
    assert [(each["name"], each["image"]) for each in pod["spec"]["containers"]] == [("istio-proxy", "auto")]
    for label, value in {"app": NAME, "istio": "ingressgateway"}.items():
        assert pod["metadata"]["labels"][label] == value
        assert helm.one(made, "Service")["spec"]["selector"][label] == value
    assert {each["port"] for each in helm.one(made, "Service")["spec"]["ports"]} == {15021, 80, 443}
    assert pod["spec"]["securityContext"]["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


def test_a_gateway_of_a_revision_asks_for_it() -> None:
    pod = helm.one(gateway({"revision": "canary"}), "Deployment")["spec"]["template"]

    assert pod["metadata"]["labels"]["istio.io/rev"] == "canary"


@pytest.mark.parametrize("place", ["", "defaults", "_internal_defaults_do_not_set"])
def test_values_of_all_ages_load(place: str) -> None:
    values = {
        "service": {"type": "NodePort", "externalTrafficPolicy": "Local", "annotations": {"a": 1}},
        "autoscaling": {"enabled": False},
        "replicaCount": 3,
        "labels": {"istio": "edge", "team": 7},
        "podDisruptionBudget": {"minAvailable": 1},
        "env": {"X": True},
    }
    made = gateway({place: values} if place else values)
    deployment, service = helm.one(made, "Deployment"), helm.one(made, "Service")

    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["selector"]["matchLabels"]["istio"] == "edge"
    assert deployment["metadata"]["labels"]["team"] == "7"
    assert {"name": "X", "value": "true"} in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert service["metadata"]["annotations"] == {"a": "1"}
    assert helm.one(made, "PodDisruptionBudget")["spec"]["minAvailable"] == 1


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])  # an example costs a start of helm
@given(text=helm.TEXT)
def test_quotes_and_newlines_in_values_change_no_meaning(text: str) -> None:
    notes = {"note": text}
    values = {"service": {"annotations": notes}, "labels": notes, "annotations": notes, "podAnnotations": notes}
    made = gateway({**values, "env": {"TEXT": text}, "nodeSelector": notes, "networkGateway": text, "revision": text})
    deployment, service = helm.one(made, "Deployment"), helm.one(made, "Service")
    pod = deployment["spec"]["template"]

    assert service["metadata"]["annotations"] == deployment["metadata"]["annotations"] == notes
    assert service["metadata"]["labels"]["note"] == pod["metadata"]["labels"]["note"] == text
    assert pod["metadata"]["annotations"]["note"] == text
    assert pod["metadata"]["labels"].get("istio.io/rev", "") == text
    assert pod["metadata"]["labels"].get("topology.istio.io/network", "") == text
    assert pod["spec"]["nodeSelector"] == notes
    assert {"name": "TEXT", "value": text} in pod["spec"]["containers"][0]["env"]


def test_openshift_chooses_the_user_whoever_of_the_charts_is_told() -> None:
    for written in ({"platform": "openshift"}, {"global": {"platform": "openshift"}}):
        container = next(helm.pods(gateway(written)))["spec"]["containers"][0]
        assert "runAsUser" not in container["securityContext"]
        assert "no effect" not in helm.notes("gateway", written)
    assert next(helm.pods(gateway()))["spec"]["containers"][0]["securityContext"]["runAsUser"] == 1337


def test_a_network_gateway_keeps_the_users_ports() -> None:
    ports = [{"name": "tls", "port": 8443, "protocol": "TCP"}]
    written = {"networkGateway": "east", "service": {"ports": ports}}

    assert helm.one(gateway(written), "Service")["spec"]["ports"] == ports
    assert helm.one(gateway(written), "Service")["metadata"]["labels"]["topology.istio.io/network"] == "east"
    said = helm.notes("gateway", written)
    assert "networkGateway: changes neither ports, which stay those of service.ports, nor what the gateway sees" in said
    assert "not supported" not in said


def test_a_daemon_set_has_neither_replicas_nor_an_autoscaler() -> None:
    made = gateway({"kind": "DaemonSet", "strategy": {"type": "OnDelete"}})

    assert helm.one(made, "DaemonSet")["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert not [each for each in made if each["kind"] == "HorizontalPodAutoscaler"]
    said: dict[str, Any] = {"kind": "DaemonSet", "autoscaling": {"enabled": True}}
    for written in (said, {"defaults": said}):
        assert "autoscaling: a DaemonSet has one pod a node" in helm.notes("gateway", written)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replicaCuont": 3}, "replicaCuont"),
        ({"service": {"typ": "NodePort"}}, "typ"),
        ({"replicaCount": "three"}, "replicaCount"),
        ({"kind": "StatefulSet"}, "kind"),
    ],
)
def test_a_mistake_is_refused_with_its_place(values: Mapping[str, Any], says: str) -> None:
    with pytest.raises(helm.RefusedError, match=says):
        gateway(values)


def test_old_values_are_named_as_without_effect() -> None:
    said = helm.notes("gateway", {"runAsRoot": True, "compatibilityVersion": "1.20", "global": {"hub": "h"}})

    assert "global.hub: of global this chart reads platform only" in said
    assert "runAsRoot: set securityContext" in said
    assert "compatibilityVersion: there is no earlier version" in said


def test_notes_show_the_object_that_selects_it() -> None:
    said = helm.notes("gateway", release=NAME)

    assert 'istio: "ingressgateway"' in said
    assert f"rollout status deployment/{NAME}" in said


def test_base_has_all_definitions_and_the_default_validator() -> None:
    made = helm.render("base")
    definitions = {each["metadata"]["name"]: each for each in made if each["kind"] == "CustomResourceDefinition"}

    assert definitions == {each["metadata"]["name"]: each for each in definition.all_kinds().values()}
    validator = helm.one(made, "ValidatingWebhookConfiguration")["webhooks"][0]
    assert validator["failurePolicy"] == "Ignore", "until istiod answers"
    assert validator["clientConfig"]["service"]["name"] == "istiod"


def test_base_leaves_out_what_the_user_says() -> None:
    some = helm.render("base", {"base": {"excludedCRDs": ["envoyfilters.networking.istio.io"]}, "defaultRevision": ""})
    none = helm.render("base", {"base": {"enableCRDTemplates": False}, "defaultRevision": "canary"})

    assert len(some) == len(definition.KINDS) - 1
    assert [each["kind"] for each in none] == ["ValidatingWebhookConfiguration"]
    assert none[0]["webhooks"][0]["clientConfig"]["service"]["name"] == "istiod-canary"
    assert "no value of this name is known" in helm.notes("base", {"bas": {}})
    assert "kubectl apply -f crds/" in helm.notes("base", {"base": {"enableCRDTemplates": False}})

"""Templates over a pod: merged as patches are, with a network plugin, on OpenShift, and of an administrator's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.webhook.reviews import CONFIG, pod
from webhook import inject, strategic
from webhook.settings import InjectionConfig
from webhook.templates import Templates

NETWORKS = "k8s.v1.cni.cncf.io/networks"
RANGES = {
    "openshift.io/sa.scc.uid-range": "1000620000/10000",
    "openshift.io/sa.scc.supplemental-groups": "1000620000-1000620099",
}


def made(given: Mapping[str, Any], config: InjectionConfig, **more: Any) -> Any:
    answer = inject.render(given, config, "demo", **more)
    assert not answer.refused, answer.diagnostics
    return answer.pod


def named(found: Any, name: str) -> Any:
    both = (*found["spec"].get("initContainers", []), *found["spec"]["containers"])
    return next(each for each in both if each["name"] == name)


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1}}, {"a": {"$patch": "delete"}}, {}),
        ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2, "d": None}}, {"a": {"c": 2}}),
        ({"a": {"b": 1}}, {"a": {"$patch": "merge", "c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"args": [1]}, {"args": [2]}, {"args": [2]}),
        ({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["a", "b"]}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
            {"env": [{"name": "C", "value": "2"}, {"name": "B", "valueFrom": {}}]},
            {"env": [{"name": "C", "value": "2"}, {"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}]},
        ),
        (
            {"containers": [{"name": "a"}, {"name": "b"}]},
            {"containers": [{"name": "a", "$patch": "delete"}]},
            {"containers": [{"name": "b"}]},
        ),
        (
            {"containers": [{"name": "a"}]},
            {"containers": [{"$patch": "replace"}, {"name": "c"}]},
            {"containers": [{"name": "c"}]},
        ),
        ({"ports": 7}, {"ports": [{"containerPort": 1}]}, {"ports": [{"containerPort": 1}]}),
        ({"ports": ["x"]}, {"ports": [{"containerPort": 1}]}, {"ports": [{"containerPort": 1}, "x"]}),
        (
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "csi": {"driver": "d"}}]},
            {"volumes": [{"name": "v", "csi": {"driver": "d"}}]},
        ),
    ],
)
def test_parts_merge_as_the_api_server_merges_patches(target: Any, patch: Any, wanted: Any) -> None:
    before = json.dumps(target)
    assert strategic.merge(target, patch) == wanted
    assert json.dumps(target) == before


def test_what_is_new_may_come_last() -> None:
    target = {
        "env": [{"name": "A", "value": "1"}, "x", {"name": "B", "value": "1"}],
        "x": {"ports": [{"containerPort": 1}]},
    }
    patch = {"env": [{"name": "C", "value": "2"}, {"name": "A", "value": "3"}], "x": {"ports": [{"containerPort": 2}]}}
    assert strategic.merge(target, patch, last=True) == {
        "env": [{"name": "A", "value": "3"}, "x", {"name": "B", "value": "1"}, {"name": "C", "value": "2"}],
        "x": {"ports": [{"containerPort": 1}, {"containerPort": 2}]},
    }


def test_a_network_plugin_takes_the_place_of_the_init_container() -> None:
    found = made(pod({"traffic.sidecar.istio.io/excludeOutboundPorts": "9,10"}), replace(CONFIG, cni=True))
    check = named(found, "istio-validation")
    assert check["args"][-2:] == ["--run-validation", "--skip-rule-apply"]
    assert check["securityContext"]["runAsUser"] == 1337
    assert "add" not in check["securityContext"]["capabilities"]
    notes = found["metadata"]["annotations"]
    assert notes["sidecar.istio.io/interceptionMode"] == "REDIRECT"
    assert notes["traffic.sidecar.istio.io/excludeInboundPorts"] == "15020"
    assert notes["traffic.sidecar.istio.io/excludeOutboundPorts"] == "9,10"
    assert NETWORKS not in notes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "default/istio-cni"),
        ("other", "other, default/istio-cni"),
        ("other,default/istio-cni", "other, default/istio-cni"),
        ('[{"name": "o"}]', '[{"name": "o"}, {"name": "istio-cni", "namespace": "default"}]'),
        ('[{"name": "istio-cni", "namespace": "default"}]', '[{"name": "istio-cni", "namespace": "default"}]'),
        ("[broken", "[broken"),
    ],
)
def test_multus_is_told_of_the_plugin_once(before: str, after: str) -> None:
    given = pod({NETWORKS: before} if before else None)
    found = made(given, replace(CONFIG, cni=True, multus=True))
    assert found["metadata"]["annotations"][NETWORKS] == after


def test_on_openshift_the_proxy_has_the_last_user_of_its_namespace() -> None:
    config = replace(CONFIG, openshift=True, cni=True)
    found = made(pod(), config, of_namespace=RANGES)
    security = named(found, "istio-proxy")["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (1000629999, 1000620099)
    assert named(found, "istio-validation")["securityContext"]["runAsUser"] == 1000629999
    assert "1000629999" in named(found, "istio-validation")["args"]
    other = named(made(pod(), config, of_namespace={"openshift.io/sa.scc.uid-range": "many"}), "istio-proxy")
    assert other["securityContext"]["runAsUser"] == 1337


@pytest.mark.parametrize(("user", "wanted"), [(1000620000, 1000629999), (1000620007, 1000620007)])
def test_a_user_that_openshift_gave_all_containers_is_not_the_proxys(user: int, wanted: int) -> None:
    given = pod()
    given["spec"]["containers"][0]["securityContext"] = {"runAsUser": 1000620000}
    given["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "securityContext": {"runAsUser": user}})
    found = made(given, replace(CONFIG, openshift=True), of_namespace=RANGES)
    assert named(found, "istio-proxy")["securityContext"]["runAsUser"] == wanted


def test_a_template_of_plain_yaml_lies_over_the_built_in_one_and_what_the_user_wrote_wins() -> None:
    spire = {"spec": {"volumes": [{"name": "workload-socket", "csi": {"driver": "csi.spiffe.io"}}]}}
    audit = {
        "metadata": {"annotations": {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}},
        "spec": {"containers": [{"name": "app", "image": "theirs", "env": [{"name": "AUDIT", "value": "1"}]}]},
    }
    templates = Templates(overlays={"spire": spire, "audit": audit}, aliases={"all": ("sidecar", "spire", "audit")})
    given = pod({"inject.istio.io/templates": "all"})
    given["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 80}}
    found = made(given, replace(CONFIG, templates=templates))
    assert {"name": "workload-socket", "csi": {"driver": "csi.spiffe.io"}} in found["spec"]["volumes"]
    app = named(found, "app")
    assert (app["image"], app["env"]) == ("app:1", [{"name": "AUDIT", "value": "1"}])
    assert app["readinessProbe"] == {"httpGet": {"port": 80}}
    assert '"name":"app"' in found["metadata"]["annotations"]["proxy.istio.io/overrides"]


def test_a_template_without_a_proxy_adds_none() -> None:
    only = Templates(overlays={"label": {"metadata": {"labels": {"a": "b"}}}}, defaults=("label",))
    found = made(pod(), replace(CONFIG, templates=only, merge_metrics=True, native_sidecar=True))
    assert [each["name"] for each in found["spec"]["containers"]] == ["app"]
    assert found["metadata"]["labels"]["a"] == "b"
    assert "initContainers" not in found["spec"]


@pytest.mark.parametrize("name", ["empty", "sidecar"])
def test_an_empty_template_of_an_administrators_adds_nothing(name: str) -> None:
    only = Templates(overlays={name: {}}, defaults=(name,))
    found = made(pod(), replace(CONFIG, templates=only))
    assert [each["name"] for each in found["spec"]["containers"]] == ["app"]


def test_a_native_sidecar_keeps_what_its_user_wrote_of_it() -> None:
    given = pod()
    given["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "env": [{"name": "A", "value": "1"}]})
    found = made(given, replace(CONFIG, native_sidecar=True))
    assert [each["name"] for each in found["spec"]["initContainers"]] == ["istio-init", "istio-proxy"]
    assert [each["name"] for each in found["spec"]["containers"]] == ["app"]
    assert {"name": "A", "value": "1"} in named(found, "istio-proxy")["env"]
    assert "initContainers" in json.loads(found["metadata"]["annotations"]["proxy.istio.io/overrides"])


def test_values_of_the_chart_reach_the_containers() -> None:
    config = replace(
        CONFIG,
        lifecycle={"preStop": {"exec": {"command": ["sleep"]}}},
        log_as_json=True,
        privileged=True,
        seccomp={"type": "RuntimeDefault"},
        gateway_seccomp={"type": "Localhost"},
        gateway_security={"fsGroup": 7},
        startup_failures=0,
        status_port=0,
        init_image="a/init:1",
        token_audience="mine",
        image_pull_secrets=("regcred",),
        injected_annotations={"team": "mesh"},
    )
    found = made(pod(), config)
    proxy, init = named(found, "istio-proxy"), named(found, "istio-init")
    assert proxy["lifecycle"] == {"preStop": {"exec": {"command": ["sleep"]}}}
    assert not {"startupProbe", "readinessProbe"} & proxy.keys()
    assert "--log_as_json" in proxy["args"]
    assert proxy["securityContext"]["seccompProfile"] == init["securityContext"]["seccompProfile"]
    assert proxy["securityContext"]["privileged"]
    assert init["image"] == "a/init:1"
    assert "15090,15021" in init["args"]
    assert found["spec"]["imagePullSecrets"] == [{"name": "regcred"}]
    assert found["metadata"]["annotations"]["team"] == "mesh"
    gateway = made(pod({"inject.istio.io/templates": "gateway"}), config)
    assert gateway["spec"]["securityContext"] == {"fsGroup": 7}
    assert named(gateway, "istio-proxy")["securityContext"]["seccompProfile"] == {"type": "Localhost"}
    assert "readinessProbe" in named(gateway, "istio-proxy")  # a status port of 0 is for sidecars


@pytest.mark.parametrize(
    ("image", "kind", "wanted"),
    [
        ("h/p:1", "distroless", "h/p:1-distroless"),
        ("h/p:1-debug", "distroless", "h/p:1-distroless"),
        ("h/p:1-distroless", "default", "h/p:1"),
    ],
)
def test_the_kind_of_an_image_is_the_end_of_its_tag(image: str, kind: str, wanted: str) -> None:
    config = replace(CONFIG, image=image, proxy_config={"image": {"imageType": kind}})
    assert named(made(pod(), config), "istio-proxy")["image"] == wanted
    config = replace(CONFIG, image=image)
    assert named(made(pod({"sidecar.istio.io/proxyImageType": kind}), config), "istio-proxy")["image"] == wanted


def test_annotations_that_nobody_reads_are_warned_about() -> None:
    said = {
        "sidecar.istio.io/proxyCpu": "1",
        "sidecar.istio.io/proxyImage": "short",
        "sidecar.istio.io/logLevel": "info",
    }
    found = inject.render(pod(said), CONFIG, "demo")
    assert not found.refused
    assert [each.code.value for each in found.diagnostics] == ["M0004", "M0110"]
    assert named(found.pod, "istio-proxy")["image"] == CONFIG.image


def test_names_of_variables_are_checked() -> None:
    found = inject.render(pod({"proxy.istio.io/config": "proxyMetadata: {'A B': x}"}), CONFIG, "demo")
    assert [each.field for each in found.diagnostics] == ["metadata.annotations[proxy.istio.io/config].proxyMetadata"]
    assert found.refused

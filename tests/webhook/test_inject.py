"""webhook/inject.py: a pod in, an injected pod and its patch out."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.webhook.reviews import apply
from webhook import decision, inject
from webhook.inject import Injection
from webhook.settings import InjectionConfig

ON = {"istio-injection": "enabled"}
CONFIG = InjectionConfig()
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "reviews-v1-5d8f-",
        "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "5d8f"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-v1-5d8f", "controller": True},
        ],
        "unheardOf": {"kept": True},
    },
    "spec": {
        "containers": [{"name": "reviews", "image": "reviews:1", "ports": [{"containerPort": 9080, "name": "http"}]}],
        "initContainers": [{"name": "migrate", "image": "migrate:1"}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def pod(
    annotations: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    made = copy.deepcopy(POD)
    made["metadata"]["annotations"] = dict(annotations or {})
    made["metadata"]["labels"] |= labels or {}
    made["spec"] |= spec
    return made


def injected(given: Mapping[str, Any], config: InjectionConfig = CONFIG) -> Injection:
    answer = inject.inject(given, config, "demo", ON)
    assert answer.decision.inject
    assert apply(given, list(answer.patch)) == answer.pod
    return answer


def named(answer: Injection, name: str) -> dict[str, Any]:
    spec: Any = answer.pod["spec"]
    return next(each for each in (*spec.get("initContainers", []), *spec["containers"]) if each["name"] == name)


def variables(container: Mapping[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def notes(answer: Injection) -> Mapping[str, str]:
    metadata: Any = answer.pod["metadata"]
    return dict(metadata["annotations"])


def test_the_pod_gets_one_init_container_one_sidecar_and_nothing_of_it_is_lost() -> None:
    answer = injected(POD)
    spec: Any = answer.pod["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["migrate", "istio-init"]
    assert [each["name"] for each in spec["containers"]] == ["reviews", "istio-proxy"]
    assert spec["containers"][0] == POD["spec"]["containers"][0]
    assert [each["name"] for each in spec["volumes"]][-1] == "tmp"
    metadata: Any = answer.pod["metadata"]
    assert metadata["unheardOf"] == {"kept": True}
    assert metadata["labels"] == POD["metadata"]["labels"] | {
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "reviews",
        "service.istio.io/canonical-revision": "v1",
    }
    assert json.loads(metadata["annotations"][decision.STATUS])["containers"] == ["istio-proxy"]


def test_istio_init_programs_the_rules_as_root_with_two_capabilities() -> None:
    init = named(injected(POD), "istio-init")
    assert " ".join(init["args"]) == (
        "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020 "
        "--log_output_level=default:info"
    )
    assert init["securityContext"]["runAsUser"] == 0
    assert init["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}


def test_istio_proxy_knows_who_it_is_and_has_no_rights() -> None:
    proxy = named(injected(POD), "istio-proxy")
    env = variables(proxy)
    assert env["ISTIO_META_WORKLOAD_NAME"] == "reviews-v1"
    assert env["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/demo/deployments/reviews-v1"
    assert json.loads(env["ISTIO_META_POD_PORTS"]) == [{"containerPort": 9080, "name": "http"}]
    assert env["INSTANCE_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert (env["ISTIO_META_MESH_ID"], env["TRUST_DOMAIN"], env["PROXY_CONFIG"]) == (
        "cluster.local",
        "cluster.local",
        "{}",
    )
    assert "ISTIO_META_NETWORK" not in env
    assert proxy["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsGroup": 1337,
        "runAsNonRoot": True,
        "runAsUser": 1337,
    }
    assert "lifecycle" not in proxy


@pytest.mark.parametrize(("labels", "network"), [({}, "net1"), ({"topology.istio.io/network": "net2"}, "net2")])
def test_a_pod_is_in_the_network_of_its_label_else_of_the_values(labels: dict[str, str], network: str) -> None:
    answer = injected(pod(labels=labels), replace(CONFIG, network="net1"))
    assert variables(named(answer, "istio-proxy"))["ISTIO_META_NETWORK"] == network
    found: Any = answer.pod["metadata"]
    assert found["labels"]["topology.istio.io/network"] == network


def test_what_proxy_metadata_says_of_the_network_counts() -> None:
    """As in Istio's template, in which it comes last."""
    said = {"proxy.istio.io/config": "{proxyMetadata: {ISTIO_META_NETWORK: net3}}"}
    answer = injected(pod(said), replace(CONFIG, network="net1"))
    assert variables(named(answer, "istio-proxy"))["ISTIO_META_NETWORK"] == "net3"


def test_settings_reach_the_containers() -> None:
    config = replace(CONFIG, network="net1", mesh_id="m1", image_pull_policy="Always", image_pull_secrets=("s1",))
    answer = injected(pod(), config)
    assert variables(named(answer, "istio-proxy"))["ISTIO_META_NETWORK"] == "net1"
    assert variables(named(answer, "istio-proxy"))["ISTIO_META_MESH_ID"] == "m1"
    assert named(answer, "istio-init")["imagePullPolicy"] == named(answer, "istio-proxy")["imagePullPolicy"] == "Always"
    spec: Any = answer.pod["spec"]
    assert spec["imagePullSecrets"] == [{"name": "s1"}]
    assert json.loads(notes(answer)[decision.STATUS])["imagePullSecrets"] == ["s1"]


def test_traffic_annotations_become_arguments() -> None:
    prefix = "traffic.sidecar.istio.io/"
    given = {
        f"{prefix}includeOutboundIPRanges": "10.0.0.0/8",
        f"{prefix}excludeOutboundIPRanges": "10.1.0.0/16",
        f"{prefix}includeInboundPorts": "80",
        f"{prefix}excludeInboundPorts": "81,82",
        f"{prefix}includeOutboundPorts": "90",
        f"{prefix}excludeOutboundPorts": "91",
        f"{prefix}excludeInterfaces": "eth1",
        "istio.io/reroute-virtual-interfaces": "net1",
        "status.sidecar.istio.io/port": "16020",
        "sidecar.istio.io/agentLogLevel": "all:debug",
    }
    assert " ".join(named(injected(pod(given)), "istio-init")["args"][7:]) == (
        "-m REDIRECT -i 10.0.0.0/8 -x 10.1.0.0/16 -b 80 -d 15090,15021,81,82,16020 -q 90 -o 91 -k net1 -c eth1 "
        "--log_output_level=all:debug"
    )


def test_an_annotation_that_is_there_and_empty_is_an_argument_as_in_the_template_of_istio() -> None:
    given = {f"traffic.sidecar.istio.io/{name}OutboundPorts": "" for name in ("include", "exclude")}
    args = named(injected(pod(given)), "istio-init")["args"]
    assert args[args.index("-q") : args.index("-q") + 4] == ["-q", "", "-o", ""]


def test_mode_none_leaves_the_rules_out() -> None:
    answer = injected(pod({"sidecar.istio.io/interceptionMode": "NONE"}, initContainers=[]))
    spec: Any = answer.pod["spec"]
    assert not spec.get("initContainers")
    assert variables(named(answer, "istio-proxy"))["ISTIO_META_INTERCEPTION_MODE"] == "NONE"


def test_tproxy_runs_as_root_with_net_admin() -> None:
    context = named(injected(pod({"sidecar.istio.io/interceptionMode": "TPROXY"})), "istio-proxy")["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (0, False)
    assert context["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]}


def test_resources_are_the_charts_or_only_what_annotations_say() -> None:
    assert named(injected(POD), "istio-proxy")["resources"]["limits"] == {"cpu": "2000m", "memory": "1024Mi"}
    asked = {"sidecar.istio.io/proxyCPU": "10m", "sidecar.istio.io/proxyMemoryLimit": "1Gi"}
    assert named(injected(pod(asked)), "istio-proxy")["resources"] == {
        "requests": {"cpu": "10m"},
        "limits": {"memory": "1Gi"},
    }


def test_log_levels_image_and_readiness_follow_annotations() -> None:
    asked = {
        "sidecar.istio.io/logLevel": "debug",
        "sidecar.istio.io/componentLogLevel": "http:trace",
        "sidecar.istio.io/proxyImage": "mine/proxy:1",
        "readiness.status.sidecar.istio.io/initialDelaySeconds": "3",
        "readiness.status.sidecar.istio.io/periodSeconds": "4",
        "readiness.status.sidecar.istio.io/failureThreshold": "5",
    }
    proxy = named(injected(pod(asked)), "istio-proxy")
    assert proxy["args"][4:6] == ["--proxyLogLevel=debug", "--proxyComponentLogLevel=http:trace"]
    assert proxy["image"] == "mine/proxy:1"
    probe = proxy["readinessProbe"]
    assert (probe["initialDelaySeconds"], probe["periodSeconds"], probe["failureThreshold"]) == (3, 4, 5)


def test_the_pods_proxy_config_lies_over_the_meshs_and_variables_add_up() -> None:
    config = replace(
        CONFIG, proxy_config={"drainDuration": "45s", "concurrency": 2, "proxyMetadata": {"A": "1", "B": "1"}}
    )
    answer = injected(pod({"proxy.istio.io/config": "concurrency: 4\nproxyMetadata:\n  B: '2'\n"}), config)
    env = variables(named(answer, "istio-proxy"))
    assert json.loads(env["PROXY_CONFIG"]) == {"concurrency": 4, "proxyMetadata": {"A": "1", "B": "2"}}
    assert (env["A"], env["B"]) == ("1", "2")
    assert variables(named(answer, "istio-init")) == {"A": "1", "B": "2"}


def test_a_held_application_starts_after_the_proxy() -> None:
    answer = injected(pod({"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"}))
    spec: Any = answer.pod["spec"]
    assert [each["name"] for each in spec["containers"]] == ["istio-proxy", "reviews"]
    assert spec["containers"][0]["lifecycle"]["postStart"]["exec"]["command"] == ["pilot-agent", "wait"]


def test_a_native_sidecar_starts_before_the_apps_init_containers_and_goes_on() -> None:
    answer = injected(pod({"sidecar.istio.io/nativeSidecar": "true"}))
    spec: Any = answer.pod["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["istio-init", "istio-proxy", "migrate"]
    assert spec["initContainers"][1]["restartPolicy"] == "Always"
    assert json.loads(notes(answer)[decision.STATUS])["initContainers"] == ["istio-init", "istio-proxy"]


def test_what_the_user_wrote_of_the_proxy_wins() -> None:
    own = {
        "name": "istio-proxy",
        "image": "auto",
        "securityContext": {"runAsUser": 1234, "privileged": None},
        "env": [{"name": "TRUST_DOMAIN", "value": "mine"}, {"name": "NEW", "value": "$(POD_NAME)"}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/etc/istio/pod"}],
        "args": ["other"],
    }
    answer = injected(pod(containers=[*POD["spec"]["containers"], own]))
    proxy = named(answer, "istio-proxy")
    assert (variables(proxy)["TRUST_DOMAIN"], variables(proxy)["NEW"], proxy["args"]) == (
        "mine",
        "$(POD_NAME)",
        ["other"],
    )
    assert proxy["image"] == "proxyv2"
    order = [each["name"] for each in proxy["env"]]
    assert order.index("NEW") > order.index("POD_NAME")
    assert proxy["securityContext"]["runAsUser"] == 1234
    assert "privileged" not in proxy["securityContext"]
    assert {each["mountPath"]: each["name"] for each in proxy["volumeMounts"]}["/etc/istio/pod"] == "tmp"
    assert named(answer, "istio-init")["args"][5:7] == ["-u", "1234"]
    assert json.loads(notes(answer)["proxy.istio.io/overrides"])["containers"][0]["args"] == ["other"]


def test_a_volume_of_the_users_with_our_name_stays_theirs() -> None:
    spec: Any = injected(pod(volumes=[{"name": "istio-data", "hostPath": {"path": "/data"}}])).pod["spec"]
    assert [each for each in spec["volumes"] if each["name"] == "istio-data"] == [
        {"name": "istio-data", "hostPath": {"path": "/data"}},
    ]


def test_user_volumes_reach_the_proxy() -> None:
    asked = {
        "sidecar.istio.io/userVolume": '{"certs":{"secret":{"secretName":"certs"}}}',
        "sidecar.istio.io/userVolumeMount": '{"certs":{"mountPath":"/certs","readOnly":true}}',
    }
    answer = injected(pod(asked))
    mounts = named(answer, "istio-proxy")["volumeMounts"]
    assert mounts[-1] == {"name": "certs", "mountPath": "/certs", "readOnly": True}
    assert "certs" in json.loads(notes(answer)[decision.STATUS])["volumes"]


def test_a_gateway_is_completed_to_a_router() -> None:
    gateway = {
        "metadata": {
            "name": "istio-ingressgateway-1",
            "labels": {"istio": "ingressgateway", "sidecar.istio.io/inject": "true"},
            "annotations": {"inject.istio.io/templates": "gateway"},
        },
        "spec": {"containers": [{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8080}]}]},
    }
    answer = inject.inject(gateway, CONFIG, "istio-system", {})
    spec: Any = answer.pod["spec"]
    assert len(spec["containers"]) == 1
    proxy = spec["containers"][0]
    assert proxy["args"][:2] == ["proxy", "router"]
    assert proxy["image"] == "proxyv2"
    assert [each["containerPort"] for each in proxy["ports"]] == [15090, 8080]
    assert proxy["securityContext"] == {"runAsUser": 1337, "runAsGroup": 1337}
    assert "initContainers" not in spec
    assert spec["securityContext"] == {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}
    labels: Any = answer.pod["metadata"]
    assert "security.istio.io/tlsMode" not in labels["labels"]
    assert labels["labels"]["service.istio.io/canonical-name"] == "istio-ingressgateway-1"


def test_probes_go_through_the_agent_where_it_answers() -> None:
    container = {
        "name": "web",
        "ports": [{"name": "http", "containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": "http", "path": "/ok", "scheme": "HTTPS"}, "timeoutSeconds": 5},
        "livenessProbe": {"exec": {"command": ["true"]}},
        "startupProbe": {"tcpSocket": {"port": "unknown"}},
        "lifecycle": {"preStop": {"httpGet": {"port": 91}}},
    }
    aimed = {"name": "aimed", "readinessProbe": {"httpGet": {"port": 15020, "path": "/x"}}}
    answer = injected(pod(containers=[container, aimed]), replace(CONFIG, rewrite_probes=True))
    web = named(answer, "web")
    path = "/app-health/web/readyz"
    assert web["readinessProbe"] == {"httpGet": {"scheme": "HTTP", "path": path, "port": 15020}, "timeoutSeconds": 5}
    assert web["livenessProbe"] == container["livenessProbe"]
    assert web["lifecycle"] == {"preStop": {"httpGet": {"path": "/app-lifecycle/web/prestopz", "port": 15020}}}
    assert named(answer, "aimed") == aimed
    assert json.loads(variables(named(answer, "istio-proxy"))["ISTIO_KUBE_APP_PROBERS"]) == {
        path: {"httpGet": {"port": 80, "path": "/ok", "scheme": "HTTPS"}, "timeoutSeconds": 5},
        "/app-health/web/startupz": {"tcpSocket": {"port": "unknown"}},
        "/app-lifecycle/web/prestopz": {"httpGet": {"port": 91}},
    }
    no = {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
    off = injected(pod(no, containers=[container]), replace(CONFIG, rewrite_probes=True))
    assert named(off, "web") == container
    bare = injected(pod(containers=[{"name": "web"}]), replace(CONFIG, rewrite_probes=True))
    assert "ISTIO_KUBE_APP_PROBERS" not in variables(named(bare, "istio-proxy"))


def test_metrics_go_through_the_agent_unless_the_user_says_no() -> None:
    config = replace(CONFIG, merge_metrics=True, proxy_config={"statusPort": "x"})
    assert notes(injected(POD, config))["prometheus.io/port"] == "15020"
    for no in ({"prometheus.istio.io/merge-metrics": "false"}, {"prometheus.io/scrape": "false"}):
        asked = pod({**no, "status.sidecar.istio.io/port": "15020"})
        assert "prometheus.io/port" not in notes(injected(asked, config))
    app = injected(
        pod({"prometheus.io/scrape": "true", "prometheus.io/port": "9", "status.sidecar.istio.io/port": "1"}), config
    )
    told = json.loads(variables(named(app, "istio-proxy"))["ISTIO_PROMETHEUS_ANNOTATIONS"])
    assert told == {"scrape": "true", "path": "", "port": "9"}
    both = injected(
        pod({"prometheus.io/scrape": "true", "prometheus.istio.io/scrape-targets": "8080:/m, 9100"}), config
    )
    told = json.loads(variables(named(both, "istio-proxy"))["ISTIO_PROMETHEUS_ANNOTATIONS"])
    assert told["targets"] == [{"port": "8080", "path": "/m"}, {"port": "9100", "path": "/metrics"}]


def test_an_injected_pod_is_left_alone() -> None:
    first = injected(POD)
    again = inject.inject(first.pod, CONFIG, "demo", ON)
    assert (again.patch, again.decision.inject, again.decision.reason) == (
        (),
        False,
        "the pod has been injected already",
    )


def test_a_pod_that_is_not_selected_is_left_alone() -> None:
    answer = inject.inject(POD, CONFIG, "demo", {})
    assert (answer.pod, answer.patch, answer.refused) == (POD, (), False)


def test_a_pod_of_nobody_is_its_own_workload() -> None:
    bare = {"metadata": {"name": "solo"}, "spec": {"containers": [{"name": "solo"}]}}
    answer = inject.render(bare, CONFIG, "demo")
    metadata: Any = answer.pod["metadata"]
    assert metadata["labels"]["service.istio.io/canonical-name"] == "solo"
    assert metadata["labels"]["service.istio.io/canonical-revision"] == "latest"


DEPARTS = {"proxy.istio.io/config": 'proxyMetadata: {DRAIN_UNTIL_ACKNOWLEDGED: "true"}'}
RELEASED = {"httpGet": {"path": "/released", "port": 15020}}


def test_apps_that_are_to_end_without_a_lost_request_wait_for_the_agent() -> None:
    own = {"name": "own", "lifecycle": {"preStop": {"exec": {"command": ["sync"]}}}}
    answer = injected(pod(DEPARTS, containers=[{"name": "web", "lifecycle": {"postStart": RELEASED}}, own]))
    assert named(answer, "web")["lifecycle"] == {"postStart": RELEASED, "preStop": RELEASED}
    assert named(answer, "own") == own
    assert "lifecycle" not in named(answer, "istio-proxy")
    said = variables(named(answer, "istio-proxy"))
    assert said["DRAIN_UNTIL_ACKNOWLEDGED"] == "true"
    assert said["POD_TERMINATION_GRACE_PERIOD_SECONDS"] == "30"


def test_the_agent_knows_how_long_its_pod_may_take() -> None:
    answer = injected(pod(DEPARTS, terminationGracePeriodSeconds=90))
    assert variables(named(answer, "istio-proxy"))["POD_TERMINATION_GRACE_PERIOD_SECONDS"] == "90"


def test_a_native_sidecar_needs_no_hook_to_end_after_its_apps() -> None:
    answer = injected(pod(DEPARTS), replace(CONFIG, native_sidecar=True))
    assert "lifecycle" not in named(answer, "istio-proxy")
    assert named(answer, "reviews")["lifecycle"] == {"preStop": RELEASED}

"""What the chart istiod makes of its users' values. Real helm; no cluster."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings

from crds import parse
from crds.key import ConfigKey
from crds.mesh_config import MeshConfig
from crds.mesh_networks import MeshNetworks
from istiod import __main__ as program
from istiod import features
from istiod.jwks import fetch
from tests.charts import helm
from webhook import decision, values
from webhook.settings import InjectionConfig, Policy

pytestmark = pytest.mark.apiserver  # of its programs helm is one


@pytest.mark.parametrize("chart", ["base", "istiod", "gateway"])
def test_lint_has_nothing_to_say(chart: str) -> None:
    said = helm.run("lint", "--strict", str(helm.CHARTS / chart))

    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


def test_defaults_are_two_replicas_that_stand_apart_and_survive_a_drain() -> None:
    made = helm.render("istiod")
    deployment = helm.one(made, "Deployment")
    pod = deployment["spec"]["template"]["spec"]

    assert helm.one(made, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
    assert "replicas" not in deployment["spec"], "the autoscaler decides"
    assert helm.one(made, "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert [each["topologyKey"] for each in pod["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]


def test_more_roots_for_servers_of_keys_are_where_istiod_looks_for_them() -> None:
    made = helm.render("istiod", {"pilot": {"jwksResolverExtraRootCA": "-----BEGIN\nX\n", "revision": "canary"}})
    (roots,) = [each for each in made if each["metadata"]["name"].startswith("pilot-jwks-extra-cacerts")]
    pod = helm.one(made, "Deployment")["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "extracacerts"]
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "extracacerts"]

    assert roots["data"] == {fetch.EXTRA_ROOTS.name: "-----BEGIN\nX\n"}
    assert volume["configMap"]["name"] == roots["metadata"]["name"]
    assert mount["mountPath"] == str(fetch.EXTRA_ROOTS.parent)
    assert "extracacerts" not in str(helm.one(helm.render("istiod"), "Deployment"))


def test_networks_are_those_of_the_values_as_the_documentation_has_them() -> None:
    page = (helm.CHARTS.parent / "docs/networks.md").read_text()
    written = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    texts = helm.one(helm.render("istiod", written), "ConfigMap", "istio")["data"]
    config, found = parse.part_of_text(MeshNetworks, texts["meshNetworks"], ConfigKey("", "ConfigMap", "", "istio"), "")

    assert (config is not None, found) == (True, ())
    assert yaml.safe_load(texts["meshNetworks"])["networks"] == written["global"]["meshNetworks"]
    assert texts["mesh"] == helm.one(helm.render("istiod"), "ConfigMap", "istio")["data"]["mesh"]
    assert "meshNetworks" not in helm.notes("istiod", written)
    bare = helm.one(helm.render("istiod"), "ConfigMap", "istio")["data"]
    assert yaml.safe_load(bare["meshNetworks"]) == {"networks": {}}


def test_without_autoscaling_the_number_of_replicas_is_the_users() -> None:
    made = helm.render("istiod", {"pilot": {"autoscaleEnabled": False, "replicaCount": 3}})

    assert helm.one(made, "Deployment")["spec"]["replicas"] == 3
    assert not [each for each in made if each["kind"] == "HorizontalPodAutoscaler"]


def test_one_replica_has_no_budget_that_would_block_a_drain() -> None:
    made = helm.render("istiod", {"pilot": {"autoscaleEnabled": False, "replicaCount": 1}})

    assert not [each for each in made if each["kind"] == "PodDisruptionBudget"]


def test_labels_and_annotations_are_text_and_the_users_win() -> None:
    notes = {"prometheus.io/scrape": False, "a": 1}
    annotated = (
        "podAnnotations",
        "serviceAnnotations",
        "serviceAccountAnnotations",
        "sidecarInjectorWebhookAnnotations",
    )
    made = helm.render(
        "istiod",
        {"pilot": {**dict.fromkeys(annotated, notes), "podLabels": {"b": True}, "deploymentLabels": {"c": 1.5}}},
    )
    deployment = helm.one(made, "Deployment")
    pod = deployment["spec"]["template"]["metadata"]

    written = {"prometheus.io/scrape": "false", "a": "1"}
    assert pod["annotations"] == {**written, "prometheus.io/port": "15014"}
    assert (pod["labels"]["b"], deployment["metadata"]["labels"]["c"]) == ("true", "1.5")
    for kind in ("Service", "ServiceAccount", "MutatingWebhookConfiguration"):
        assert helm.one(made, kind)["metadata"]["annotations"] == written


def test_the_variables_that_the_chart_lets_pass_are_those_that_istiod_reads() -> None:
    listed = set(yaml.safe_load((helm.CHARTS / "istiod/files/environment.yaml").read_text()))
    read: set[str] = set(features.NAMES)

    class Seen(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return default

    program.cluster_settings(None, Seen())

    assert listed == (read | {"CLUSTER_ID"}) - {"POD_NAME", "POD_NAMESPACE", "HOSTNAME"}


def test_istiod_understands_its_arguments() -> None:
    made = helm.render("istiod", {"global": {"proxy": {"clusterDomain": "cluster.example"}}})
    container = helm.one(made, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    said = program.settings_of(program.parser().parse_args(container["args"]))

    ports = {f":{each['containerPort']}" for each in container["ports"]}
    assert ports == {said.http_address, said.monitoring_address, said.ca_address, said.mtls_address, said.https_address}
    assert said.features.dns_domain == "cluster.example"
    service = helm.one(made, "Service")["spec"]["ports"]
    assert {f":{each['targetPort']}" for each in service} < ports


def test_what_istiod_would_refuse_at_its_start_helm_refuses() -> None:
    with pytest.raises(helm.RefusedError, match=r"global\.multiCluster\.clusterName"):
        helm.render("istiod", {"global": {"multiCluster": {"clusterName": "east"}}})


def test_the_config_maps_are_what_mesh_and_injector_read() -> None:
    made = helm.render(
        "istiod",
        {
            "revision": "canary",
            "global": {"meshID": "m", "proxy": {"autoInject": "disabled", "resources": {"limits": None}}},
            "meshConfig": {"trustDomain": "td", "defaultConfig": {"concurrency": 2}},
            "sidecarInjectorWebhook": {"neverInjectSelector": [{"matchLabels": {"a": "b"}}]},
        },
    )
    mesh_text = helm.one(made, "ConfigMap", "istio-canary")["data"]["mesh"]
    mesh, found = parse.part(MeshConfig, yaml.safe_load(mesh_text), None)
    injector = helm.one(made, "ConfigMap", "istio-sidecar-injector-canary")["data"]
    read = values.from_values(
        values.Texts(values=injector["values"], config=injector["config"], mesh=mesh_text),
        values.Surroundings(revision="canary"),
    )

    assert (mesh is not None, found) == (True, ())
    assert mesh is not None
    assert mesh.trust_domain == "td"
    assert mesh.root_namespace == helm.SYSTEM
    said = yaml.safe_load(mesh_text)["defaultConfig"]
    assert said == {"discoveryAddress": "istiod-canary.istio-system.svc:15012", "meshId": "m", "concurrency": 2}
    assert read.diagnostics == ()
    assert read.config is not None
    assert read.config.policy.enabled is False
    assert read.config.policy.never == ({"matchLabels": {"a": "b"}},)
    assert "{{" not in json.dumps(injector), "no template text"


@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])  # an example costs a start of helm
@given(text=helm.TEXT, other=helm.TEXT.filter(lambda text: text.strip() != ""))
def test_quotes_and_newlines_in_values_change_no_meaning(text: str, other: str) -> None:
    made = helm.render(
        "istiod",
        {
            "pilot": {
                "podAnnotations": {"note": text, other: "x"},
                "serviceAnnotations": {"note": text},
                "env": {"TEXT": text},
                "extraContainerArgs": [text],
                "nodeSelector": {"note": text},
                "tolerations": [{"key": text}],
                "image": f"h/{other}",
            },
            "global": {"priorityClassName": other, "imagePullSecrets": [text], "network": text},
            "meshConfig": {"accessLogFormat": text, "trustDomain": other, "extensionProviders": [{"name": text}]},
            "sidecarInjectorWebhook": {"injectedAnnotations": {"note": text}, "templates": {"mine": text}},
        },
    )
    deployment = helm.one(made, "Deployment")
    template = deployment["spec"]["template"]
    container = template["spec"]["containers"][0]
    injector = helm.one(made, "ConfigMap", "istio-sidecar-injector")["data"]
    mesh = yaml.safe_load(helm.one(made, "ConfigMap", "istio")["data"]["mesh"])

    assert template["metadata"]["annotations"]["note"] == text
    assert template["metadata"]["annotations"][other] == "x"
    assert helm.one(made, "Service")["metadata"]["annotations"] == {"note": text}
    assert {"name": "TEXT", "value": text} in container["env"]
    assert container["args"][-1] == text
    assert template["spec"]["nodeSelector"] == {"note": text}
    assert template["spec"]["tolerations"] == [{"key": text}]
    assert container["image"] == f"h/{other}"
    assert template["spec"]["priorityClassName"] == other
    assert helm.one(made, "ServiceAccount")["imagePullSecrets"] == [{"name": text}]
    assert json.loads(injector["values"])["global"]["network"] == text
    assert yaml.safe_load(injector["config"])["injectedAnnotations"] == {"note": text}
    assert yaml.safe_load(injector["config"])["templates"] == {"mine": text}
    assert (mesh["accessLogFormat"], mesh["trustDomain"]) == (text, other)
    assert mesh["extensionProviders"] == [{"name": text}]


def selected(made: list[helm.Object], namespace: Mapping[str, str], pod: Mapping[str, str]) -> Iterator[str]:
    """Names of the webhooks that an API server would ask about a pod."""
    for configuration in (each for each in made if each["kind"] == "MutatingWebhookConfiguration"):
        for hook in configuration["webhooks"]:
            if matches(hook["namespaceSelector"], namespace) and matches(hook["objectSelector"], pod):
                yield f"{configuration['metadata']['name']}/{hook['name']}"


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """As the API server does: an absent label satisfies NotIn."""
    results = {
        "In": lambda each: labels.get(each["key"]) in each["values"],
        "NotIn": lambda each: labels.get(each["key"]) not in each["values"],
        "DoesNotExist": lambda each: each["key"] not in labels,
    }
    return all(results[each["operator"]](each) for each in selector["matchExpressions"])


def labels(*names: str) -> Iterator[dict[str, str]]:
    choices = {
        "istio-injection": (None, "enabled", "disabled"),
        "istio.io/rev": (None, "default", "canary", "other"),
        "sidecar.istio.io/inject": (None, "true", "false"),
    }
    for chosen in itertools.product(*(choices[name] for name in names)):
        yield {name: value for name, value in zip(names, chosen, strict=True) if value is not None}


@pytest.mark.parametrize("by_default", [False, True])
@pytest.mark.parametrize("revision", ["", "canary"])
def test_the_webhooks_are_asked_just_where_injection_says_yes(revision: str, *, by_default: bool) -> None:
    made = helm.render(
        "istiod", {"revision": revision, "sidecarInjectorWebhook": {"enableNamespacesByDefault": by_default}}
    )
    config = InjectionConfig(
        revision=revision or "default", policy=Policy(namespaces_by_default=by_default and not revision)
    )

    for namespace, pod in itertools.product(
        labels("istio-injection", "istio.io/rev"), labels("istio.io/rev", "sidecar.istio.io/inject")
    ):
        asked = list(selected(made, {**namespace, "kubernetes.io/metadata.name": "demo"}, pod))
        said = decision.decide({"metadata": {"labels": pod}}, config, "demo", namespace)
        plain = "istio-injection" in namespace or ("istio.io/rev" not in namespace and "istio.io/rev" not in pod)
        wanted = said.inject and not (revision and plain)  # what names no revision is the default one's
        assert (len(asked) == 1) == wanted, (namespace, pod, asked, said)
        assert len(asked) <= 1


def test_nothing_of_the_cluster_and_of_istiod_can_be_blocked() -> None:
    made = helm.render(
        "istiod",
        {
            "revisionTags": ["prod"],
            "sidecarInjectorWebhook": {"enableNamespacesByDefault": True},
            "pilot": {"podLabels": {"sidecar.istio.io/inject": "true"}},
        },
    )
    own = next(helm.pods(made))["metadata"]["labels"]

    for namespace in labels("istio-injection", "istio.io/rev"):
        assert not list(selected(made, {**namespace, "kubernetes.io/metadata.name": helm.SYSTEM}, own))
        for system in ("kube-system", "kube-public", "kube-node-lease"):
            for pod in labels("istio.io/rev", "sidecar.istio.io/inject"):
                assert not list(selected(made, {**namespace, "kubernetes.io/metadata.name": system}, pod))


def test_revisions_and_their_tags_share_no_name_and_answer_each_their_own() -> None:
    default, canary = helm.render("istiod"), helm.render("istiod", {"revision": "canary", "revisionTags": ["prod"]})
    both = [*default, *canary]
    keys = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in both]

    assert len(keys) == len(set(keys))
    asked = {tag: list(selected(both, {"istio.io/rev": tag}, {})) for tag in ("default", "canary", "prod", "none")}
    assert asked == {
        "default": ["istio-sidecar-injector/rev.namespace.sidecar-injector.istio.io"],
        "canary": ["istio-sidecar-injector-canary/rev.namespace.sidecar-injector.istio.io"],
        "prod": ["istio-revision-tag-prod/rev.namespace.sidecar-injector.istio.io"],
        "none": [],
    }
    for made in (default, canary):
        chosen = helm.one(made, "Deployment")["spec"]["selector"]["matchLabels"]
        for each in helm.pods(both):
            mine = each in list(helm.pods(made))
            assert (chosen.items() <= each["metadata"]["labels"].items()) == mine


def test_a_default_tag_moves_plain_namespaces_to_a_revision() -> None:
    made = helm.render("istiod", {"revision": "canary", "revisionTags": ["default"]})

    assert list(selected(made, {"istio-injection": "enabled"}, {})) == [
        "istio-revision-tag-default/namespace.sidecar-injector.istio.io"
    ]


def test_the_network_policy_opens_what_is_served() -> None:
    made = helm.render("istiod", {"global": {"networkPolicy": {"enabled": True}}})
    policy = helm.one(made, "NetworkPolicy")["spec"]
    ports = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}

    served = helm.one(made, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert ports == {each["containerPort"] for each in served}
    assert not [each for each in helm.render("istiod") if each["kind"] == "NetworkPolicy"]

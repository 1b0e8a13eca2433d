"""Webhooks as users meet them: a label, a pod, a wrong object; the chart's configuration on a real API server."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness.controlplane import Cluster
from e2e.harness.ports import free_ports
from e2e.harness.process import Program, running, wait

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
SPACE = "istio-system"
KINDS = ("ConfigMap", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
VALUES = {"global.hub": "registry.local/istio", "global.tag": "1"}
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [web]
  http: [{{route: [{{destination: {{host: web}}, weight: {weight}}}, {{destination: {{host: b}}, weight: 9}}]}}]
"""
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all}
spec: {action: DENY}
"""


def rendered(cluster: Cluster, url: str) -> Iterator[Mapping[str, Any]]:
    """ConfigMaps and webhooks of the chart; the latter call a URL, as there is no node for a Service's pods."""
    flags = [f"--set={name}={value}" for name, value in VALUES.items()]
    base = cluster.call("helm", "template", "istio-base", str(ROOT / "charts/base"), "-n", SPACE)
    done = cluster.call("helm", "template", "istiod", str(ROOT / "charts/istiod"), "-n", SPACE, *flags)
    assert (base.returncode, done.returncode) == (0, 0), (base.stderr, done.stderr)
    for item in (*yaml.safe_load_all(base.stdout), *yaml.safe_load_all(done.stdout)):
        if item and item["kind"] in KINDS:
            for webhook in item.get("webhooks", []):
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {"url": f"{url}{path}"}
                webhook["failurePolicy"] = "Fail"
            yield item


@pytest.fixture(scope="module")
def monitoring() -> int:
    """The port of istiod's /metrics."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def istiod(apiserver: Cluster, tmp_path_factory: pytest.TempPathFactory, monitoring: int) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("istiod")
    https, pages, secure, mtls = free_ports(4)
    apiserver.kubectl("apply", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", "crd", "-l", "app=istio-pilot", "--timeout=60s")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(space))  # other tests of this API server may have made it
    apiserver.apply(yaml.safe_dump_all(rendered(apiserver, f"https://localhost:{https}")), SPACE)
    command = [sys.executable, "-m", "istiod", "discovery", "--kubeconfig", str(apiserver.kubeconfig)]
    command += [
        f"--httpsAddr=127.0.0.1:{https}",
        f"--secureGRPCAddr=127.0.0.1:{secure}",
        f"--mtlsAddr=127.0.0.1:{mtls}",
    ]
    command += [f"--httpAddr=127.0.0.1:{pages}", f"--monitoringAddr=127.0.0.1:{monitoring}"]
    environment = {"POD_NAMESPACE": SPACE, "POD_NAME": "istiod-0"}
    with running("istiod", command, home / "istiod.log", environment) as program:
        names = [f"{name}webhookconfigurations" for name in ("mutating", "validating")]

        def trusted() -> bool:
            hooks = [h for n in names for item in apiserver.get(n)["items"] for h in item["webhooks"]]
            return all(hook["clientConfig"].get("caBundle") for hook in hooks)

        wait("the caBundle of all webhooks", trusted, [program], 90)
        wait("the first pod", lambda: made(apiserver, "probe", "default"), [program], 60)
        yield program
    for name in names:
        apiserver.kubectl("delete", name, "--all")
    apiserver.kubectl("delete", "namespace", SPACE, "--wait=false")


def made(cluster: Cluster, name: str, namespace: str) -> bool:
    asked = '{"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}}'
    flags = ("--image=app:1", "-n", namespace, f"--overrides={asked}", "--restart=Never", "--dry-run=server")
    return cluster.call("kubectl", "run", name, *flags).returncode == 0


def pod(name: str, annotations: Mapping[str, str] | None = None, **labels: str) -> str:
    metadata = {"name": name, "annotations": dict(annotations or {}), "labels": labels}
    spec = {"containers": [{"name": "app", "image": "app:1", "readinessProbe": {"httpGet": {"port": 80}}}]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def containers(cluster: Cluster, name: str, namespace: str) -> list[str]:
    spec = cluster.get("pod", name, "-n", namespace)["spec"]
    return [each["name"] for each in (*spec.get("initContainers", []), *spec["containers"])]


@pytest.fixture
def space(apiserver: Cluster, namespace: str, istiod: Program) -> str:
    istiod.check()
    apiserver.kubectl("wait", "serviceaccount/default", "-n", namespace, "--for=create", "--timeout=30s")
    return namespace


def test_a_labelled_namespace_gets_sidecars_and_a_pod_may_refuse(apiserver: Cluster, space: str) -> None:
    apiserver.apply(pod("before"), space)
    apiserver.kubectl("label", "namespace", space, "istio-injection=enabled")
    apiserver.apply(pod("after"), space)
    apiserver.apply(pod("never", **{"sidecar.istio.io/inject": "false"}), space)
    assert containers(apiserver, "before", space) == ["app"]
    assert containers(apiserver, "after", space) == ["istio-init", "app", "istio-proxy"]
    assert containers(apiserver, "never", space) == ["app"]
    stored = apiserver.get("pod", "after", "-n", space)
    assert stored["spec"]["containers"][1]["image"] == "registry.local/istio/proxyv2:1"
    assert stored["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] == 15020
    assert stored["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio"


def test_a_pod_of_a_deployment_carries_its_name(apiserver: Cluster, space: str) -> None:
    apiserver.kubectl("label", "namespace", space, "istio.io/rev=default")
    apiserver.kubectl("create", "deployment", "web", "--image=app:1", "-n", space)
    apiserver.kubectl("wait", "pods", "-l", "app=web", "-n", space, "--for=create", "--timeout=30s")
    (found,) = apiserver.get("pods", "-l", "app=web", "-n", space)["items"]
    env = {each["name"]: each.get("value") for each in found["spec"]["containers"][1]["env"]}
    assert env["ISTIO_META_OWNER"] == f"kubernetes://apis/apps/v1/namespaces/{space}/deployments/web"
    assert found["metadata"]["labels"]["service.istio.io/canonical-name"] == "web"


def test_a_gateway_pod_is_completed(apiserver: Cluster, space: str) -> None:
    given = json.loads(pod("gateway", {"inject.istio.io/templates": "gateway"}, **{"sidecar.istio.io/inject": "true"}))
    given["spec"] = {"containers": [{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8080}]}]}
    apiserver.apply(json.dumps(given), space)
    (proxy,) = apiserver.get("pod", "gateway", "-n", space)["spec"]["containers"]
    assert proxy["image"] == "registry.local/istio/proxyv2:1"
    assert proxy["args"][:2] == ["proxy", "router"]
    assert {each["containerPort"] for each in proxy["ports"]} == {8080, 15090}


def test_a_pod_that_cannot_be_injected_is_refused_with_the_annotation(apiserver: Cluster, space: str) -> None:
    bad = pod("bad", {"sidecar.istio.io/proxyCPU": "a\nb"}, **{"sidecar.istio.io/inject": "true"})
    done = apiserver.call("kubectl", "apply", "-n", space, "-f", "-", stdin=bad)
    assert done.returncode == 1
    assert "metadata.annotations[sidecar.istio.io/proxyCPU]" in done.stderr
    assert "is not a quantity" in done.stderr


def test_what_is_wrong_is_refused_with_field_and_reason(apiserver: Cluster, space: str) -> None:
    apiserver.apply(RULE.format(name="good", weight=0), space)
    done = apiserver.call("kubectl", "apply", "-n", space, "-f", "-", stdin=RULE.format(name="bad", weight=-7))
    assert done.returncode == 1
    assert "spec.http[0].route[0].weight: weight -7 is negative" in done.stderr
    done = apiserver.call("kubectl", "apply", "-n", space, "-f", "-", stdin=POLICY)
    assert done.returncode == 1
    assert "spec.rules: DENY without rules never does anything" in done.stderr
    apiserver.kubectl("delete", "virtualservice", "good", "-n", space)


def test_what_envoy_refuses_is_refused_as_the_documentation_shows_it(
    apiserver: Cluster, space: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs/rejections.md").read_text().replace("demo", space)
    given = page.partition("```yaml\n")[2].partition("```")[0]
    shown = page.partition("$ kubectl create -f limit.yaml\n")[2].partition("\n\n")[0]
    (tmp_path / "limit.yaml").write_text(given)
    done = apiserver.call("kubectl", "create", "-f", str(tmp_path / "limit.yaml"))
    assert done.returncode == 1
    assert done.stderr.replace(f"{tmp_path}/", "").split() == shown.split()
    assert apiserver.get("envoyfilters", "-n", space)["items"] == []

    mended = given.replace("token_bucket:", "stat_prefix: limit\n          token_bucket:")
    assert apiserver.call("kubectl", "create", "-f", "-", stdin=mended).stderr == ""
    apiserver.kubectl("delete", "envoyfilter", "limit", "-n", space)


def test_an_object_stored_while_validation_was_off_can_be_labelled_and_deleted(
    apiserver: Cluster, space: str, istiod: Program
) -> None:
    hooks = apiserver.get("validatingwebhookconfigurations")["items"]
    apiserver.kubectl("delete", "validatingwebhookconfigurations", "--all")
    apiserver.apply(POLICY, space)
    for hook in hooks:
        hook["metadata"] = {"name": hook["metadata"]["name"], "labels": hook["metadata"].get("labels", {})}
        apiserver.apply(json.dumps(hook), space)

    def refused() -> bool:
        other = POLICY.replace("deny-all", "other")
        asked = ("create", "-n", space, "--dry-run=server", "-f", "-")
        return "DENY without rules" in apiserver.call("kubectl", *asked, stdin=other).stderr

    wait("validation", refused, [istiod], 30)
    done = apiserver.call("kubectl", "label", "authorizationpolicy", "deny-all", "-n", space, "a=b")
    assert done.returncode == 0, done.stderr
    assert "Warning: the object refuses whatever it might have refused" in done.stderr
    apiserver.kubectl("delete", "authorizationpolicy", "deny-all", "-n", space)


def test_the_settings_that_the_chart_writes_are_all_understood(istiod: Program) -> None:
    assert "istio-sidecar-injector" not in istiod.log.read_text()


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_is_admitted_is_counted(apiserver: Cluster, space: str, monitoring: int) -> None:
    """D20."""
    rules = 'group="networking.istio.io",version="v1",resource="virtualservices"'
    wanted = {
        "sidecar_injection_requests_total": 3,
        "sidecar_injection_success_total": 1,
        "sidecar_injection_failure_total": 1,
        "sidecar_injection_skip_total": 1,
        "sidecar_injection_time_seconds_count": 3,
        f"galley_validation_passed{{{rules}}}": 1,
        f'galley_validation_failed{{{rules},reason="invalid_resource"}}': 1,
    }
    before = metrics(monitoring)
    wants = {"sidecar.istio.io/inject": "true"}
    apiserver.apply(pod("good", **wants), space)
    host = json.loads(pod("host", **wants))
    host["spec"]["hostNetwork"] = True
    apiserver.apply(json.dumps(host), space)
    bad = pod("bad", {"sidecar.istio.io/proxyCPU": "much"}, **wants)
    apiserver.apply(RULE.format(name="good", weight=0), space)
    for refused in (bad, RULE.format(name="bad", weight=-7)):
        assert apiserver.call("kubectl", "create", "-n", space, "-f", "-", stdin=refused).returncode == 1

    after = metrics(monitoring)
    assert {name: after[name] - before.get(name, 0) for name in wanted} == wanted
    assert after["galley_validation_config_updates"] >= 1
    apiserver.kubectl("delete", "virtualservice", "good", "-n", space)

"""samples/addons: what the manifests name is there, istioctl finds each, and Prometheus' job finds the mesh's pods.

The programs themselves are not started: their images are not of this project.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.harness.controlplane import Cluster
from istioctl import dashboard, metrics
from tests.charts import helm, prometheus
from tools import dashboards
from wire import names

FOLDER: Final = helm.ROOT / "samples/addons"
FILES: Final = sorted(FOLDER.rglob("*.yaml"))
USUAL: Final = [each for each in FILES if each.parent == FOLDER]
_URL: Final = re.compile(r"http://([a-z-]+)(?:\.istio-system)?:(\d+)")
Object = dict[str, Any]


def objects(files: list[Path], kind: str = "") -> list[Object]:
    found = [each for file in files for each in yaml.safe_load_all(file.read_text()) if each]
    return [each for each in found if kind in {"", each["kind"]}]


def one(kind: str, name: str) -> Object:
    return helm.one(objects(USUAL), kind, name)


def pod(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]
    return found


def ports(template: Object) -> set[int]:
    return {each["containerPort"] for container in template["spec"]["containers"] for each in container["ports"]}


def matching(files: list[Path], labels: Mapping[str, str]) -> list[Object]:
    """The pods of these labels."""
    every = map(pod, objects(files, "Deployment"))
    return [each for each in every if labels.items() <= each["metadata"]["labels"].items()]


@pytest.mark.parametrize("file", [each for each in FILES if objects([each], "Deployment")], ids=lambda each: each.stem)
def test_what_a_manifest_names_is_there(file: Path) -> None:
    files = list(dict.fromkeys([file, *USUAL]))
    maps = {each["metadata"]["name"]: each["data"] for each in objects(files, "ConfigMap")}
    accounts = {each["metadata"]["name"] for each in objects([file], "ServiceAccount")}
    assert {each["metadata"].get("namespace", "istio-system") for each in objects([file])} == {"istio-system"}
    for each in objects([file], "Deployment"):
        template = pod(each)
        spec = template["spec"]
        assert each["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert {spec["serviceAccountName"]} <= accounts if "serviceAccountName" in spec else True
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        for container in spec["containers"]:
            assert re.fullmatch(r"[a-z.]+/[a-z]+/[a-z-]+:v?\d+\.\d+(\.\d+)?", container["image"]), "pinned"
            assert container["readinessProbe"]["httpGet"]["port"] in ports(template)
            for mount in container.get("volumeMounts", ()):
                said = volumes[mount["name"]]
                held = maps[said["configMap"]["name"]] if "configMap" in said else None
                assert held is None or mount.get("subPath", next(iter(held))) in held
    for each in objects([file], "Service"):
        (served,) = matching([file], each["spec"]["selector"])
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports(served)


def test_their_settings_lead_to_each_other() -> None:
    said = {
        found for each in objects(USUAL, "ConfigMap") for text in each["data"].values() for found in _URL.findall(text)
    }
    assert {"prometheus", "grafana", "tracing", "loki"} == {name for name, _ in said}
    for name, port in said:
        assert int(port) in {each["port"] for each in one("Service", name)["spec"]["ports"]}, name


@pytest.mark.parametrize("name", ["prometheus", "grafana", "kiali", "jaeger", "zipkin"])
def test_istioctl_finds_each_by_its_labels(name: str) -> None:
    page = dashboard.PAGES[name]
    label, _, value = page.selector.partition("=")
    files = [*(FOLDER / "extras").glob("*.yaml")] if name == "zipkin" else USUAL
    (found,) = matching(files, {label: value})
    assert page.port in ports(found)
    assert (name != "prometheus") or metrics.SELECTORS[0] == page.selector


def test_grafana_shows_the_dashboards_of_the_chart() -> None:
    assert (FOLDER / "grafana-dashboards.yaml").read_text() == dashboards.addon()
    held = one("ConfigMap", "istio-grafana-dashboards")["data"]
    files = (helm.ROOT / dashboards.FOLDER).glob("*.json")
    assert held == {each.name: each.read_text() for each in files}
    settings = one("ConfigMap", "grafana")["data"]
    (provider,) = yaml.safe_load(settings["dashboards.yaml"])["providers"]
    mounts = pod(one("Deployment", "grafana"))["spec"]["containers"][0]["volumeMounts"]
    assert provider["options"]["path"] in {each["mountPath"] for each in mounts if each["name"] == "dashboards"}


@pytest.mark.apiserver
def test_a_real_api_server_takes_them(apiserver: Cluster) -> None:
    """Strictly: a field that it does not know is refused. Where nothing runs, nothing has to be pulled."""
    apiserver.call("kubectl", "create", "namespace", "istio-system")
    for files in (FOLDER, FOLDER / "extras"):
        done = apiserver.call("kubectl", "apply", "--validate=strict", "--dry-run=server", "-f", str(files))
        assert (done.returncode, done.stderr) == (0, "")
    apiserver.kubectl("apply", "-f", str(FOLDER / "grafana-dashboards.yaml"))  # its annotation may not be too long
    apiserver.kubectl("delete", "-f", str(FOLDER / "grafana-dashboards.yaml"))


def found(labels: Mapping[str, str], annotations: Mapping[str, str], address: str) -> dict[str, str]:
    """A pod as Prometheus' discovery tells it to its jobs."""

    def meta(part: str, said: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        yield from ((f"__meta_kubernetes_pod_{part}_{re.sub('[^a-zA-Z0-9_]', '_', k)}", v) for k, v in said.items())

    return {
        "__address__": f"{address}:1",
        "__meta_kubernetes_namespace": "shop",
        "__meta_kubernetes_pod_name": "web-1",
        "__meta_kubernetes_pod_ip": address,
        "__meta_kubernetes_pod_phase": "Running",
        **dict(meta("label", labels)),
        **dict(meta("annotation", annotations)),
    }


@pytest.mark.long
@pytest.mark.timeout(900)
@prometheus.NEEDS_GO
def test_prometheus_reads_its_configuration_and_finds_the_pods(tmp_path: Path) -> None:
    """By Prometheus' own reader and rules; the annotations of pods are those of the charts and the injector."""
    istiod = next(helm.pods(helm.render("istiod")))["metadata"]
    gateway = next(helm.pods(helm.render("gateway")))["metadata"]
    sidecar = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus"}
    pods = [
        found(istiod["labels"], istiod["annotations"], "10.0.0.1"),
        found(gateway["labels"], gateway["annotations"], "fd00::2"),
        found({"app": "web"}, sidecar, "10.0.0.3"),
        found({"app": "plain"}, {}, "10.0.0.4"),
        {**found({"app": "done"}, sidecar, "10.0.0.5"), "__meta_kubernetes_pod_phase": "Succeeded"},
    ]
    config = one("ConfigMap", "prometheus")["data"]["prometheus.yml"]
    program = prometheus.built(tmp_path)
    asked = json.dumps({"config": config, "found": pods})
    said = subprocess.run([program, "scrape"], input=asked, text=True, capture_output=True, check=False)
    assert said.returncode == 0, said.stderr
    made = json.loads(said.stdout)
    assert made.keys() == {"prometheus", "kubernetes-pods"}
    targets = [(each["__address__"], each["__metrics_path__"]) for each in made["kubernetes-pods"]]
    assert targets == [
        (f"10.0.0.1:{names.DEBUG_PORT}", "/metrics"),
        (f"[fd00::2]:{names.STATUS_PORT}", "/stats/prometheus"),
        (f"10.0.0.3:{names.STATUS_PORT}", "/stats/prometheus"),
    ]
    assert [each["app"] for each in made["kubernetes-pods"]][::2] == ["istiod", "web"]
    assert {(each["namespace"], each["pod"]) for each in made["kubernetes-pods"]} == {("shop", "web-1")}
    odd = json.dumps({"config": config.replace("relabel_configs", "relabel_config"), "found": []})
    assert subprocess.run([program, "scrape"], input=odd, text=True, capture_output=True, check=False).returncode == 1

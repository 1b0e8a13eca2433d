"""What the node tells others: Pods with status, files for istiod, findings for users, its own manifests."""

from __future__ import annotations

import json
import pathlib

import pytest
import yaml

from crds.diagnostic import Code
from crds.key import ConfigKey
from node import findings, launch, objects, status, store, system
from node.objects import Raw
from node.options import Options
from node.publication import Publication
from node.status import ContainerState, Phase, PodState
from node.store import Store

VIRTUAL_SERVICE = """\
# routing
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  namespace: demo
spec: {}
"""


def pod_state(*containers: ContainerState, init: tuple[ContainerState, ...] = (), **fields: object) -> PodState:
    known = {"address": "10.244.0.2", "node": "n", "host_address": "10.244.0.1", "initialized": True, **fields}
    return PodState(init=list(init), containers=list(containers), **known)  # type: ignore[arg-type]  # a test's case


def container(phase: Phase, *, ready: bool = False, code: int = 0, sidecar: bool = False) -> ContainerState:
    return ContainerState(name="c", image="i", phase=phase, ready=ready, exit_code=code, sidecar=sidecar, reason="R")


RUNNING = container(Phase.RUNNING, ready=True)


@pytest.mark.parametrize(
    ("state", "phase", "ready"),
    [
        (pod_state(RUNNING), "Running", True),
        (pod_state(RUNNING, container(Phase.WAITING)), "Running", False),
        (pod_state(RUNNING, init=(container(Phase.RUNNING, sidecar=True),)), "Running", False),
        (pod_state(RUNNING, init=(container(Phase.TERMINATED),)), "Running", True),
        (pod_state(RUNNING, initialized=False), "Pending", False),
        (pod_state(container(Phase.TERMINATED)), "Succeeded", False),
        (pod_state(container(Phase.TERMINATED, code=1)), "Failed", False),
    ],
)
def test_a_pod_is_as_its_containers_are(state: PodState, phase: str, *, ready: bool) -> None:
    assert (state.phase, state.ready) == (phase, ready)


def test_a_pod_is_published_as_an_api_server_gives_it() -> None:
    raw: Raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "demo"}}
    waiting = ContainerState(name="w", image="i", reason="ImagePullBackOff", message="no such image")
    state = pod_state(RUNNING, waiting, init=(container(Phase.TERMINATED, code=3),), created="T", deleted="U")
    found = status.document(raw, state)
    assert found["metadata"] == {"name": "a", "namespace": "demo", "creationTimestamp": "T", "deletionTimestamp": "U"}
    assert found["spec"] == {"nodeName": "n", "serviceAccountName": "default"}
    assert (found["status"]["podIP"], found["status"]["phase"]) == ("10.244.0.2", "Running")
    assert {c["type"]: c["status"] for c in found["status"]["conditions"]}["Ready"] == "False"
    assert found["status"]["containerStatuses"][1]["state"] == {
        "waiting": {"reason": "ImagePullBackOff", "message": "no such image"}
    }
    assert found["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    lines = status.pods_table([found, status.document(raw, pod_state(waiting, address=""))]).splitlines()
    assert lines[1].split() == ["demo", "a", "1/2", "Terminating", "0", "10.244.0.2", "no", "such", "image"]
    assert "ImagePullBackOff" in lines[2]
    assert status.table([]) == ""


def test_configuration_keeps_its_lines_and_the_last_of_a_name_counts(tmp_path: pathlib.Path) -> None:
    kept = Store(tmp_path)
    documents, _ = objects.read("kind: Service\napiVersion: v1\nmetadata: {name: b}\n---\n" + VIRTUAL_SERVICE, "f")
    kept.apply(documents)
    assert list(kept.objects) == [ConfigKey("", "Service", "default", "b")]
    [file] = tmp_path.iterdir()
    assert file.name == "VirtualService.demo.reviews.yaml"
    assert file.read_text().splitlines()[8] == "  name: reviews"
    kept.apply(objects.read(VIRTUAL_SERVICE.replace("spec: {}", "spec: {hosts: [a]}"), "g")[0])
    assert yaml.safe_load(file.read_text())["spec"] == {"hosts": ["a"]}
    assert kept.delete(ConfigKey("networking.istio.io", "VirtualService", "demo", "reviews"))
    assert not kept.delete(ConfigKey("networking.istio.io", "VirtualService", "demo", "reviews"))
    assert kept.delete(ConfigKey("", "Service", "default", "b"))
    assert not kept.delete(ConfigKey("", "Service", "default", "b"))


def test_a_proxy_config_is_for_injection_and_for_istiod(tmp_path: pathlib.Path) -> None:
    text = "{apiVersion: networking.istio.io/v1beta1, kind: ProxyConfig, metadata: {name: a}, spec: {concurrency: 3}}"
    space: Raw = {"metadata": {"labels": {"istio-injection": "enabled"}}}
    kept = Store(tmp_path)
    kept.apply(objects.read(text, "f", "demo")[0])
    assert [file.name for file in tmp_path.iterdir()] == ["ProxyConfig.demo.a.yaml"]
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "demo"}, "spec": {"containers": [{"name": "c"}]}}
    found, _ = system.injected(pod, {**kept.objects, ConfigKey("", "Namespace", "", "demo"): space})
    assert found is not None
    assert '"concurrency":3' in json.dumps(found, separators=(",", ":")).replace('\\"', '"')
    assert kept.delete(ConfigKey("networking.istio.io", "ProxyConfig", "demo", "a"))
    assert (list(kept.objects), list(tmp_path.iterdir())) == ([], [])


def test_json_with_tabs_is_given_on_without(tmp_path: pathlib.Path) -> None:
    text = json.dumps(
        {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "a"}}, indent="\t"
    )
    documents, wrong = objects.read(text, "a.json")
    assert wrong == []
    Store(tmp_path).apply(documents)
    assert yaml.safe_load((tmp_path / "Sidecar.default.a.yaml").read_text())["kind"] == "Sidecar"


def test_a_namespace_that_the_text_does_not_say_is_written_out(tmp_path: pathlib.Path) -> None:
    documents, _ = objects.read(VIRTUAL_SERVICE.replace("  namespace: demo\n", ""), "f", "shop")
    Store(tmp_path).apply(documents)
    [file] = tmp_path.iterdir()
    assert yaml.safe_load(file.read_text())["metadata"] == {"name": "reviews", "namespace": "shop"}


def test_without_a_namespace_the_text_is_kept_where_istiod_means_the_same(tmp_path: pathlib.Path) -> None:
    documents, _ = objects.read("\n# why\n" + VIRTUAL_SERVICE.replace("  namespace: demo\n", ""), "f")
    Store(tmp_path).apply(documents)
    [file] = tmp_path.iterdir()
    assert (file.name, file.read_text().splitlines()[6]) == ("VirtualService.default.reviews.yaml", "  name: reviews")


def test_a_file_that_is_no_utf_8_is_a_finding(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    documents, [finding] = store.load([tmp_path], "default")
    assert (documents, str(finding)) == ([], f"{tmp_path}/a.yaml:1 M0001 - -: no UTF-8: invalid start byte at byte 3")


def test_files_and_folders_are_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text(VIRTUAL_SERVICE)
    (tmp_path / "b.txt").write_text("kind: [")
    documents, found = store.load([tmp_path, tmp_path / "a.yaml"], "default")
    assert (len(documents), found) == (2, [])
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        store.load([tmp_path / "nosuch"], "default")


def test_only_what_changed_is_written_and_what_is_gone_is_removed(tmp_path: pathlib.Path) -> None:
    publication = Publication(tmp_path)
    one = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    two = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "demo"}}
    assert publication.write([one, two]) == 2
    assert publication.write([two, one]) == 0
    assert publication.write([one]) == 1
    assert [(f.name, json.loads(f.read_text())) for f in tmp_path.iterdir()] == [("Node.n.yaml", one)]


def found(text: str) -> list[str]:
    [document] = objects.read(text, "f")[0]
    seen = findings.findings(document, lambda image: image == "known")
    assert all(d.code is Code.NOT_SUPPORTED for d in seen)
    return [str(d) for d in seen]


def test_what_cannot_be_done_here_is_said_with_its_field() -> None:
    pod = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "minReadySeconds": 5,
            "template": {
                "spec": {
                    "hostNetwork": True,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {"image": "known", "ports": [{"containerPort": 1}, {"hostPort": 2}]},
                        {"image": "odd", "livenessProbe": {"grpc": {"port": 1}}},
                    ],
                }
            },
        },
    }
    assert [line.split(": ")[0] for line in found(json.dumps(pod))] == [
        "f:1 M0108 Deployment/default/d spec.minReadySeconds",
        "f:1 M0108 Deployment/default/d spec.template.spec.hostNetwork",
        "f:1 M0108 Deployment/default/d spec.template.spec.tolerations",
        "f:1 M0108 Deployment/default/d spec.template.spec.containers[0].ports[1].hostPort",
        "f:1 M0108 Deployment/default/d spec.template.spec.containers[1].image",
        "f:1 M0108 Deployment/default/d spec.template.spec.containers[1].livenessProbe.grpc",
    ]


@pytest.mark.parametrize(("kind", "fields"), [("NodePort", ["spec.type"]), ("ClusterIP", []), ("ExternalName", [])])
def test_no_port_is_open_at_the_node(kind: str, fields: list[str]) -> None:
    text = f"{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{type: {kind}}}}}\n"
    assert [line.split(": ")[0].split()[-1] for line in found(text)] == fields


def test_workloads_other_than_deployments_are_not_run_and_not_passed_on() -> None:
    text = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}}\n"
    assert "runs no Job" in found(text)[0]
    assert findings.is_workload(objects.read(text, "f")[0][0])
    assert found(VIRTUAL_SERVICE) == []
    assert found("{apiVersion: v1, kind: Pod, metadata: {name: j}, spec: {containers: [{image: known}]}}\n") == []


def test_the_meshs_own_manifests_are_readable_and_its_gateway_is_injected() -> None:
    text = system.manifests(pathlib.Path("/mesh"), Options(istiod=("--more",)))
    documents, wrong = objects.read(text, "own", "istio-system")
    assert wrong == []
    applied = {objects.key_of(d.raw): d.raw for d in documents}
    istiod = applied[ConfigKey("apps", "Deployment", "istio-system", "istiod")]["spec"]["template"]["spec"]
    assert istiod["containers"][0]["args"][-1] == "--more"
    template = applied[ConfigKey("apps", "Deployment", "istio-system", system.GATEWAY)]["spec"]["template"]
    pod = {"kind": "Pod", "metadata": {**template["metadata"], "namespace": "istio-system"}, "spec": template["spec"]}
    injected, wrong_pod = system.injected(pod, applied)
    assert injected is not None
    assert injected["spec"]["containers"][0]["args"][:2] == ["proxy", "router"]
    assert wrong_pod == ()
    assert len(objects.read(system.manifests(pathlib.Path("/m"), Options(gateway=False)), "own")[0]) == 3


def mesh_config(text: str) -> dict[ConfigKey, Raw]:
    space: Raw = {"metadata": {"labels": {"istio-injection": "enabled"}}}
    return {
        ConfigKey("", "ConfigMap", "istio-system", "istio"): {"data": {"mesh": text}},
        ConfigKey("", "Namespace", "", "demo"): space,
    }


@pytest.mark.parametrize(
    ("mesh", "trust_domain"),
    [("trustDomain: example.test", "example.test"), ("[", "cluster.local"), ("- a", "cluster.local")],
)
def test_pods_of_an_enabled_namespace_get_a_sidecar_with_the_meshs_settings(mesh: str, trust_domain: str) -> None:
    pod: Raw = {"kind": "Pod", "metadata": {"name": "a", "namespace": "demo"}, "spec": {"containers": [{"name": "a"}]}}
    injected, _ = system.injected(pod, mesh_config(mesh))
    assert injected is not None
    proxy = next(c for c in injected["spec"]["containers"] if c["name"] == "istio-proxy")
    assert {"name": "TRUST_DOMAIN", "value": trust_domain} in proxy["env"]


def test_a_pod_whose_annotations_cannot_be_met_is_refused() -> None:
    notes = {"traffic.sidecar.istio.io/includeOutboundPorts": "nonsense"}
    pod: Raw = {"kind": "Pod", "metadata": {"namespace": "demo", "annotations": notes}, "spec": {"containers": []}}
    refused, wrong = system.injected(pod, mesh_config(""))
    assert refused is None
    assert wrong


def test_the_container_sees_the_hosts_mounts_but_those_that_it_gets_afresh() -> None:
    lines = ["1 0 0:1 / / rw - ext4 a rw", "2 1 0:1 / /home/x\\040y rw - ext4 a rw", "3 1 0:1 / /run/user rw - t t rw"]
    lines += ["4 1 0:1 / /proc rw - proc p rw", "5 1 0:1 / /runner rw - ext4 a rw", "short"]
    assert launch.host_mounts("\n".join(lines)) == ["/home/x y", "/runner"]

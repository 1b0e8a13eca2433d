"""kube-inject: the pods of a file, as the webhook would make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from crds import lines, text
from istioctl import __main__ as istioctl
from tests.istioctl.test_control_plane import istiod
from webhook import documents, inject, values
from webhook.workload import Owner

POD = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
TEMPLATED = ["DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet", "DeploymentConfig"]
MUCH = {"annotations": {"sidecar.istio.io/proxyCPU": "much"}}


def workload(kind: str, pod: dict[str, Any] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"template": pod or POD}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "values.yaml").write_text("{global: {hub: h, tag: 1}}")
    (tmp_path / "mesh.yaml").write_text("{trustDomain: example.org}")
    return ["--valuesFile", str(tmp_path / "values.yaml"), "--meshConfigFile", str(tmp_path / "mesh.yaml")]


def run(path: Path, *more: str) -> int:
    return istioctl.main(["kube-inject", "-f", str(path), *more])


@pytest.mark.parametrize("kind", [*TEMPLATED, "CronJob"])
def test_each_workload_gets_what_the_webhook_gives_its_pods(
    kind: str, tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(workload(kind)))
    assert run(tmp_path / "w.yaml", *files) == 0
    (chunk,) = lines.split("out.yaml", capsys.readouterr().out)
    found = text.load(chunk.text)["spec"]
    pod = (found["jobTemplate"]["spec"] if kind == "CronJob" else found)["template"]
    config = values.from_values(values.Texts(values="{global: {hub: h, tag: 1}}", mesh="{trustDomain: example.org}"))
    assert config.config is not None
    assert pod == inject.render(POD, config.config, "shop", Owner("apps/v1", kind, "web")).pod


def test_other_documents_pass_as_they_are_written_and_order_stays(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    service = "# my service\napiVersion: v1\nkind: Service   # here\nmetadata: {name: web}\n"
    pod = "apiVersion: v1\nkind: Pod\nspec:\n  containers: [{name: a, image: b}]\nmetadata:\n  name: p\n"
    (tmp_path / "w.yaml").write_text(f"---\n{service}---\n{pod}---\n")
    assert run(tmp_path / "w.yaml", *files, "-o", str(tmp_path / "out.yaml")) == 0
    assert capsys.readouterr().out == ""
    written = (tmp_path / "out.yaml").read_text()
    assert written.startswith(f"{service}---\napiVersion: v1\nkind: Pod\nspec:\n")
    assert run(tmp_path / "out.yaml", *files) == 0
    said = capsys.readouterr()
    assert said.out == written
    assert "Pod default/p is not injected: the pod has been injected already" in said.err


@pytest.mark.parametrize(
    "value", ["|\n    -----BEGIN X-----\n    QQ==\n    -----END X-----", "|+\n    some\n\n\n", "|+\n    some\n\n\n..."]
)
def test_a_document_ends_as_it_was_written(
    value: str, tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = f"kind: ConfigMap\ndata:\n  a: {value}"
    for content in (config, f"---\n{config.removesuffix('...')}\n---\n{config}"):
        (tmp_path / "w.yaml").write_text(content)
        assert run(tmp_path / "w.yaml", *files) == 0
        written = capsys.readouterr().out
        assert list(yaml.safe_load_all(written)) == list(yaml.safe_load_all(content))
        assert written.rstrip("\n") == content.removeprefix("---\n").rstrip("\n")


def test_items_of_lists_are_injected_and_what_is_left_alone_is_said(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    host = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "h"}, "spec": {"hostNetwork": True}}
    several = {"apiVersion": "v1", "kind": "List", "items": [workload("Deployment"), host, {"kind": "ConfigMap"}]}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(several))
    assert run(tmp_path / "w.yaml", *files, "-n", "demo") == 0
    said = capsys.readouterr()
    first, *others = yaml.safe_load(said.out)["items"]
    assert [each["name"] for each in first["spec"]["template"]["spec"]["containers"]] == ["app", "istio-proxy"]
    assert others == [host, {"kind": "ConfigMap"}]
    assert said.err.splitlines() == [
        "Pod demo/h is not injected: a pod on the host's network would redirect the host's own traffic"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\n---\nb: [\n", "line "),
        (
            yaml.safe_dump(workload("CronJob", {"spec": {"containers": {"name": "app"}}})),
            "CronJob shop/web cannot be injected: spec.containers: must be a list, not an object",
        ),
        (
            yaml.safe_dump(workload("Job", {**POD, "metadata": MUCH})),
            "Job shop/web cannot be injected: metadata.annotations[sidecar.istio.io/proxyCPU]: 'much' is not",
        ),
    ],
)
def test_what_cannot_be_read_or_injected_ends_with_one_line(
    content: str, message: str, tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.yaml").write_text(content)
    assert run(tmp_path / "w.yaml", *files) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err


def test_files_that_are_not_there_and_settings_that_cannot_be_read_are_said(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none.yaml", *files) == 1
    assert "none.yaml: No such file or directory" in capsys.readouterr().err
    (tmp_path / "w.yaml").write_text("")
    (tmp_path / "values.yaml").write_text("{global: {hub: 7, surprise: 1}}")
    assert run(tmp_path / "w.yaml", *files) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: M0005 ConfigMap/istio-system/istio-sidecar-injector data.values.global.hub")
    assert said[-1] == "Error: the injector's settings cannot be read"


NODES = {"items": [{"status": {"nodeInfo": {"kubeletVersion": "v1.36.0"}}}]}
SYSTEM = "/api/v1/namespaces/istio-system/configmaps"


def namespace(start: int) -> dict[str, Any]:
    return {"metadata": {"annotations": {"openshift.io/sa.scc.uid-range": f"{start}/10"}}}


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., int]:
    """Injects a Deployment in shop and one in none, with settings of an API server that has these namespaces."""
    (tmp_path / "w.yaml").write_text(
        "\n---\n".join(
            json.dumps({**workload("Deployment"), "metadata": {"name": name, "namespace": name}})
            for name in ("shop", "shop", "none")
        )
    )

    def run_there(platform: str, namespaces: dict[str, Any]) -> int:
        pages = {
            "/api/v1/nodes": NODES,
            f"{SYSTEM}/istio-sidecar-injector": {"data": {"values": json.dumps({"global": {"platform": platform}})}},
            f"{SYSTEM}/istio": {"data": {"mesh": "{}"}},
            **{f"/api/v1/namespaces/{name}": found for name, found in namespaces.items()},
        }
        with istiod(pages) as address:
            (tmp_path / "kubeconfig").write_text(
                "{apiVersion: v1, kind: Config, current-context: c,"
                "contexts: [{name: c, context: {cluster: c, user: u}}],"
                f"clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}], users: [{{name: u, user: {{}}}}]}}"
            )
            return run(tmp_path / "w.yaml", "--kubeconfig", str(tmp_path / "kubeconfig"), "-n", "other")

    return run_there


def users(out: str) -> list[int]:
    pods = [each["spec"]["template"]["spec"] for each in yaml.safe_load_all(out)]
    containers = [each for pod in pods for each in (*pod["initContainers"], *pod["containers"])]
    return [each["securityContext"]["runAsUser"] for each in containers if each["name"] == "istio-proxy"]


def test_on_openshift_each_workload_has_the_user_of_its_namespace(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("openshift", {"shop": namespace(1000), "other": namespace(5000)}) == 0
    assert users(capsys.readouterr().out) == [1009, 1009, 1337]
    assert ask("openshift", {"shop": "no JSON"}) == 1
    assert 'Error: cannot get namespace "shop"' in capsys.readouterr().err
    assert ask("", {"shop": "no JSON"}) == 0  # elsewhere nobody needs to be able to read namespaces
    assert users(capsys.readouterr().out) == [1337] * 3


@pytest.mark.parametrize(
    "value", ["1e3", "12:30", "0o7", "on", "n", "~", ".5", "-1", "+1", "two\nlines", " x", "1_000"]
)
def test_strings_stay_strings_for_kubectl(value: str) -> None:
    assert text.load(documents.dump({"a": value, value: [value]})) == {"a": value, value: [value]}

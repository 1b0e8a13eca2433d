"""analyze against a real API server: its objects, files on top of them, and what it says where it cannot read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.controlplane import Cluster
from istioctl import __main__ as program

pytestmark = pytest.mark.apiserver

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "name": "odd"}]},
}


@pytest.fixture
def analyze(apiserver: Cluster, namespace: str, capsys: pytest.CaptureFixture[str]) -> Any:
    apiserver.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(SERVICE))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = program.main(["analyze", "--kubeconfig", str(apiserver.kubeconfig), "-n", namespace, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_objects_of_the_cluster_are_analysed(analyze: Any, namespace: str) -> None:
    code, out, _ = analyze()
    assert code == 0
    assert f"Info [IST0118] (Service {namespace}/web) Port name odd" in out
    assert f"Info [IST0102] (Namespace {namespace}) The namespace is not enabled" in out


def test_files_are_analysed_as_if_they_were_applied(analyze: Any, namespace: str, tmp_path: Path) -> None:
    rules: dict[str, Any] = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "web"},
        "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    code, out, _ = analyze(str(tmp_path))
    assert code == 0, out
    assert "IST0101" not in out
    rules["spec"]["http"][0]["route"][0]["destination"]["host"] = "gone"
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    code, out, err = analyze(str(tmp_path))
    assert code == 79
    assert f"Error [IST0101] (VirtualService {namespace}/web {tmp_path}/rules.json:1)" in out
    assert f"when analyzing namespace: {namespace}" in err


def test_reading_has_a_time_limit(analyze: Any) -> None:
    code, _, err = analyze("--timeout", "1ms")
    assert code == 1
    assert "took longer than 0.001 s (--timeout)" in err

"""``validate``: what is wrong with the objects of files, also where not one of them can be used."""

from __future__ import annotations

import pathlib

import pytest

from istioctl import __main__ as program
from istioctl.offline import world

GOOD = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: b}}\n"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (GOOD, 0, '"a.yaml" is valid'),
        (
            GOOD.replace("host: b", "hots: b"),
            1,
            "Error: a.yaml:1 M0006 DestinationRule/default/a spec.host: must be given",
        ),
        (GOOD.replace("host: b", "host: b, subset: 1"), 0, "unknown field; it has no effect; did you mean subsets?"),
        ("kind: [", 1, "Error: a.yaml:2 M0001 - -: no YAML"),
        ("just words", 1, "Error: a.yaml:1 M0002"),
        ("# nothing\n---\n", 0, '"a.yaml" is valid'),
        ("{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}}", 0, '"a.yaml" is valid'),
    ],
)
def test_a_file_of_one_object_is_judged(
    content: str,
    code: int,
    said: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a.yaml").write_text(content)
    assert program.main(["validate", "-f", "a.yaml"]) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


@pytest.mark.parametrize(
    ("path", "said"),
    [("", "there is no ''"), ("empty", "no Kubernetes object in empty: no file there ends with .yaml, .yml, .json")],
)
def test_a_path_that_leads_to_nothing_is_an_error(
    path: str, said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("empty").mkdir()
    assert program.main(["validate", "-f", path]) == 1
    assert capsys.readouterr() == ("", f"Error: {said}\n")


def test_commands_that_need_a_mesh_say_why_a_file_gives_none(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("host: b", "hots: b"))
    assert program.main(["explain", "--from", "a", "http://b/", "-f", str(file)]) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"Error: no Kubernetes object that can be used in {file}"
    assert rest[-1].endswith("M0006 DestinationRule/default/a spec.host: must be given")


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {}}}
spec: {{selector: {}, servers: [{}]}}
"""
SERVER = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}"


@pytest.mark.parametrize("selector", ["{istio: ''}", "{istio: 'A.B.'}", "{app: '*'}", "{istio: 'fe80::1%eth0'}"])
def test_gateways_stand_in_the_mesh_of_files_whatever_their_labels_are(
    selector: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GATEWAY.format("a", selector, SERVER))
    assert program.main(["validate", "-f", str(file)]) == 0
    assert "is valid" in capsys.readouterr().out


def test_two_gateways_that_would_be_called_the_same_are_two(tmp_path: pathlib.Path) -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: in-0}, spec: {containers: [{name: a, image: b}]}}\n"
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: in}, spec: {ports: [{port: 9}], selector: {role: in}}}\n"
    )
    gateways = [GATEWAY.format(f"g{n}", "{" + label + ": in}", SERVER) for n, label in enumerate(("app", "role"))]
    file = tmp_path / "a.yaml"
    file.write_text("---\n".join((pod, service, *gateways)))
    found = world.read([str(file)])
    assert [one.name for one in found.workloads() if one.router] == ["in-2-0.default", "in-3-0.default"]
    kept = found.context.model.registry.get("in.default.svc.cluster.local", "default")
    assert kept is not None
    assert [port.number for port in kept.ports] == [9]


def test_long_names_leave_room_for_numbers(tmp_path: pathlib.Path) -> None:
    meta = f"metadata: {{name: {'d' * 253}}}"
    template = "{metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}"
    deployment = f"{{apiVersion: apps/v1, kind: Deployment, {meta}, spec: {{template: {template}}}}}\n"
    service = f"{{apiVersion: v1, kind: Service, {meta}, spec: {{ports: [{{port: 9}}], selector: {{a: b}}}}}}\n"
    file = tmp_path / "a.yaml"
    file.write_text(f"{deployment}---\n{service}")
    (pod,) = world.read([str(file)]).workloads()
    assert pod.name.endswith("d-0.default")

"""``validate``: what is wrong with the objects of files, also where not one of them can be used."""

from __future__ import annotations

import pathlib

import pytest

from istioctl import __main__ as program

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

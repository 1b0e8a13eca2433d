"""What flags are without being given, and who says so: the environment, the user's file, or nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from istioctl import __main__ as program


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, which is not there yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ISTIOCONFIG", "ISTIOCTL_ISTIONAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".istioctl").mkdir()
    return tmp_path / ".istioctl" / "config.yaml"


def listed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert program.main(["x", "config", "list"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["FLAG", "VALUE", "FROM"]
    return line.split()


def test_a_variable_goes_before_the_file_and_a_flag_before_both(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(capsys) == ["istioNamespace", "istio-system", "default"]
    file.write_text("istionamespace: mesh\n")
    assert listed(capsys) == ["istioNamespace", "mesh", str(file)]
    monkeypatch.setenv("ISTIOCTL_ISTIONAMESPACE", "other")
    assert listed(capsys) == ["istioNamespace", "other", "$ISTIOCTL_ISTIONAMESPACE"]
    assert program.parser().parse_args(["version", "--remote=false"]).istioNamespace == "other"
    assert program.parser().parse_args(["version", "-i", "own"]).istioNamespace == "own"
    monkeypatch.delenv("ISTIOCTL_ISTIONAMESPACE")
    (tmp_path / "mine.yaml").write_text("istioNamespace: mine\n")
    monkeypatch.setenv("ISTIOCONFIG", str(tmp_path / "mine.yaml"))
    assert listed(capsys) == ["istioNamespace", "mine", str(tmp_path / "mine.yaml")]


def test_what_istio_could_set_and_is_no_flag_here_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("istioNamespace:\nxds-port: 15012\n")
    assert program.main(["x", "config", "list"]) == 0
    said = capsys.readouterr()
    assert said.err == f"Warning: {file}: xds-port: there is no such flag here\n"
    assert said.out.splitlines()[1].split() == ["istioNamespace", "istio-system", "default"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a: [", ""), (b"- a\n", "no mapping of flags to values"), (b"\xff", "codec can't decode"), (b"", None)],
)
def test_a_file_that_cannot_be_read_is_one_line(
    file: Path, content: bytes, reason: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(content)
    code = program.main(["version", "--remote=false"])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == ((0, 0) if reason is None else (1, 1)), said
    assert said.startswith("" if reason is None else f"Error: {file}: ")
    assert (reason or "") in said


def test_a_file_that_is_a_folder_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.mkdir()
    assert program.main(["version", "--remote=false"]) == 1
    assert capsys.readouterr().err == f"Error: {file}: Is a directory\n"

"""The program as a user meets it: Ctrl-C, odd bytes, closed folders, commands that only Istio has."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator

import pytest

from istioctl import __main__ as program
from istioctl import absent

MESH = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}\n"


class Endless(io.BytesIO):
    """A terminal at which somebody presses Ctrl-C."""

    def read(self, _: int | None = -1) -> bytes:
        raise KeyboardInterrupt


def give(monkeypatch: pytest.MonkeyPatch, content: io.BytesIO) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(content))


@pytest.mark.parametrize(
    "command", [("analyze", "-k=false", "-"), ("validate", "-f", "-"), ("diff", "--new", "-", "-f", "crds")]
)
def test_ctrl_c_ends_a_command_without_a_traceback(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, Endless())
    assert program.main(command) == 130
    assert capsys.readouterr() == ("", "")


def test_bytes_that_are_no_text_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, io.BytesIO(b"kind: \xff"))
    assert program.main(["analyze", "-k=false", "-"]) == 1
    assert capsys.readouterr().err == "Error: -: no UTF-8: invalid start byte at byte 6\n"


def test_a_change_is_read_from_the_standard_input(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mesh.yaml").write_text(MESH)
    give(monkeypatch, io.BytesIO(MESH.replace("name: a", "name: b").encode()))
    assert program.main(["diff", "-f", str(tmp_path), "--new", "-"]) == 0
    assert capsys.readouterr().err == ""


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """As a user who is not root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("below", ["", "a.yaml"])
@pytest.mark.parametrize("command", [("analyze", "-k=false"), ("validate", "-f"), ("diff", "-f"), ("test",)])
def test_what_may_not_be_read_is_one_line(
    command: tuple[str, ...], below: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "a.yaml").write_text(MESH)
    program.main([*command, str(folder)])  # imports what it needs
    capsys.readouterr()
    folder.chmod(0)
    with nobody():
        code = program.main([*command, str(folder / below)])
    folder.chmod(0o700)
    said = capsys.readouterr().err
    assert (code != 0, said.count("\n")) == (True, 1), said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("install", "--set", "profile=demo", "-y"), "'install': the charts are installed with helm"),
        (("-n", "install", "version", "--remote=false"), ""),
        (("x", "precheck"), "'precheck': 'istioctl analyze' says"),
        (("experimental", "waypoint", "list"), "'waypoint': there is no ambient mode"),
        (("verify-install",), "'helm status'"),
    ],
)
def test_commands_that_only_istio_has_say_what_to_do_instead(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(words) == bool(told)
    assert told in capsys.readouterr().err


def test_no_command_is_both_here_and_absent() -> None:
    top = next(each for each in program.parser()._actions if each.choices)
    tried = next(each for each in top.choices["x"]._actions if each.choices)
    assert not absent._TOP.keys() & set(top.choices)
    assert not absent._TRIED.keys() & set(tried.choices)

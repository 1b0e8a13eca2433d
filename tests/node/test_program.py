"""The program meshnode: up, work with it, down, and what is left after a crash."""

from __future__ import annotations

import asyncio
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from node import __main__ as program
from node import home, launch, network
from node.errors import MeshError
from node.options import Options

SERVER = """\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: busybox, command: [sh, -c, "echo hello; exec sleep 1000"]}]
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  http: [{route: [{destination: {host: a}}]}]
  hosts: a
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def meshnode(options: Options, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program here; gives its exit code and all that it said."""

    def run(*argv: str) -> tuple[int, str]:
        code = program.main(["--root", str(options.root), "--name", "m", *argv])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def use_files_of_other_namespaces(meshnode: Run, other: pathlib.Path) -> None:
    """As kubectl's: ``apply -n``, ``delete -f``; what an API server would refuse does not stop the mesh."""
    other.write_text(SERVER.replace("name: a,", "name: c,"))
    assert meshnode("apply", "-n", "shop", "-f", str(other)) == (0, "Pod c applied\n")
    deadline = time.monotonic() + 20  # it has to start
    while meshnode("logs", "-n", "shop", "pod/c")[0] != 0:
        assert time.monotonic() < deadline
    assert meshnode("delete", "-n", "shop", "-f", str(other)) == (0, "Pod c deleted\n")
    assert meshnode("delete", "-f", str(other)) == (1, "Pod c not found\n")
    assert "KIND and NAME, or -f FILE" in meshnode("delete", "Pod")[1]
    other.write_text(SERVER.replace("name: a,", "name: b,").replace("name: app,", "env: [{value: x}], name: app,"))
    assert "spec.containers[0].env[0].name: is missing" in meshnode("apply", "-f", str(other))[1]


@pytest.mark.root
def test_up_work_with_it_and_down(options: Options, meshnode: Run, tmp_path: pathlib.Path) -> None:
    file, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_text(SERVER)
    other.write_text(SERVER.replace("name: a,", "name: b,") + "---\nkind: [\n")
    code, out = meshnode("up", "--no-control-plane", "-d", "-f", str(file))
    assert (code, "mesh m is up" in out) == (0, True), out
    try:
        assert "meshnode: mesh m is up already" in meshnode("up", "--no-control-plane")[1]
        assert "mesh m is up already" in meshnode("up", "--no-control-plane", "-d")[1]
        assert "1/1" in meshnode("status")[1]
        assert meshnode("logs", "a") == (0, "hello\n")
        assert meshnode("exec", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\nerr\n")
        code, out = meshnode("apply", "-f", str(other))
        assert (code, f"{other}:" in out, "M0001" in out, "Pod b applied" in out) == (1, True, True, True)
        assert meshnode("kill", "b") == (0, "b\n")
        assert meshnode("delete", "Pod", "a") == (0, "Pod a deleted\n")
        assert meshnode("delete", "Pod", "a") == (1, "Pod a not found\n")
        assert meshnode("kill", "nosuch") == (1, "meshnode: no pod nosuch\n")
        assert meshnode("apply", "-f", "nosuch.yaml")[0] == 1
        use_files_of_other_namespaces(meshnode, other)
    finally:
        assert meshnode("down") == (0, "mesh m: all of it is removed\n")
    assert home.namespaces("m", options.root) == []
    assert meshnode("down") == (0, "mesh m: is not there\n")
    assert meshnode("status") == (1, "meshnode: mesh m is not up\n")


@pytest.mark.root
def test_apply_says_what_it_took_and_what_is_wrong_where(meshnode: Run, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SERVER)
    assert meshnode("up", "--no-control-plane", "-d", "-f", str(file))[0] == 0
    try:
        rule = tmp_path / "rule.yaml"
        rule.write_text(RULE)
        code, out = meshnode("apply", "-f", str(rule))
        assert (code, out) == (1, f"{rule}:6 M0005 VirtualService/default/r spec.hosts: must be a list, not 'a'\n")
        rule.write_text(RULE.replace("hosts: a", "hosts: [a]\n  hots: []"))
        code, out = meshnode("apply", "-f", str(rule))
        assert (code, f"{rule}:7 M0004" in out, "VirtualService r applied" in out) == (0, True, True)
        rule.write_text("# nothing\n---\n")
        assert meshnode("apply", "-f", str(rule)) == (1, f"{rule}: holds no object\n")
        assert meshnode("delete", "virtualservice", "r") == (0, "virtualservice r deleted\n")
        rule.write_text(RULE.replace("VirtualService", "VirtualServic"))
        code, out = meshnode("apply", "-f", str(rule))
        assert (code, "M0003" in out, "applied" in out) == (1, True, False)
        rule.write_text(RULE.replace("VirtualService", "WorkloadGroup").replace("hosts: a", "template: {}"))
        code, out = meshnode("apply", "-f", str(rule))
        assert (code, "M0108" in out, "applied" in out) == (0, True, False)
        rule.write_text("a: [\n")
        assert meshnode("apply", "-f", str(rule))[1].startswith(f"{rule}:2 M0001 ")
        rule.write_bytes(b"\xff")
        assert meshnode("apply", "-f", str(rule)) == (1, f"meshnode: {rule}: no UTF-8: invalid start byte at byte 0\n")
        assert meshnode("logs", "pod/a", "-c", "z")[1].startswith("meshnode: pod pod/a has no container z; it has ")
    finally:
        assert meshnode("down")[0] == 0


@pytest.mark.root
def test_a_mesh_in_the_foreground_ends_with_a_signal(options: Options, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SERVER)
    command = [sys.executable, "-m", "node", "--root", str(options.root), "--name", "m", "up", "--no-control-plane"]
    with subprocess.Popen([*command, "-f", str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "mesh m is up\n":
                process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert home.namespaces("m", options.root) == []
    assert list(options.root.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("cleaner", ["down", "the next mesh"])
def test_what_a_killed_meshnode_leaves_is_removed(
    options: Options, meshnode: Run, tmp_path: pathlib.Path, cleaner: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SERVER)
    assert meshnode("up", "--no-control-plane", "-d", "-f", str(file))[0] == 0
    assert len(home.namespaces("m", options.root)) == 2
    os.kill(home.owner(options.root, "m"), signal.SIGKILL)
    if cleaner == "down":
        assert meshnode("down")[0] == 0
    else:
        end = time.monotonic() + 10
        while not asyncio.run(home.clean_dead(options.root)):  # the kernel may not have ended it yet
            assert time.monotonic() < end
    assert home.namespaces("m", options.root) == []
    assert not [p for p in options.root.iterdir() if p.is_dir()]


def test_nothing_is_removed_but_what_meshes_made(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / "photos", other):
        folder.mkdir(parents=True)
        (folder / "one").write_text("kept")
    for name in ("../other", "..", "", "/", "photos/.."):
        with pytest.raises(MeshError, match="is no name of a mesh"):
            asyncio.run(home.end(name, root))
        for command in ("down", "status"):
            assert program.main(["--root", str(root), "--name", name, command]) == 1
            assert capsys.readouterr().err.endswith("at most 41\n")
    assert not asyncio.run(home.end("photos", root))
    assert asyncio.run(home.clean_dead(root)) == []
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")) == [
        *("other", "other/one", "root", "root/photos", "root/photos/one")
    ]


HOLDER = """\
import fcntl, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open(sys.argv[1] + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
pathlib.Path(sys.argv[1], "owner").write_text(str(os.getpid()))
print("held", flush=True)
time.sleep(1000)
"""


def test_an_owner_that_does_not_end_is_killed_and_that_is_said(tmp_path: pathlib.Path) -> None:
    (folder := tmp_path / "m").mkdir()
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert asyncio.run(home.end("m", tmp_path, 0.3, said.append))
        assert process.wait(10) == -signal.SIGKILL
    assert said == [f"mesh m: process {process.pid} has not ended 0 s after SIGTERM"]
    assert not folder.exists()


def test_what_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """A namespace that ip does not delete keeps nothing else, and hinders no other mesh."""
    spaces, folder = tmp_path / "netns", tmp_path / "root" / "m"
    folder.mkdir(parents=True)
    (folder / "owner").write_text("0")
    spaces.mkdir()
    monkeypatch.setattr(home, "FOLDER", spaces)
    stuck = spaces / f"{home.prefix_of('m', folder.parent)}1"
    stuck.touch()
    with pytest.raises(MeshError, match=rf"mesh m: could not remove namespace {re.escape(stuck.name)} \("):
        asyncio.run(home.end("m", folder.parent))
    said: list[str] = []
    assert asyncio.run(home.clean_dead(folder.parent, said.append)) == []
    assert stuck.name in said[0]
    stuck.unlink()
    assert asyncio.run(home.clean_dead(folder.parent)) == ["m"]
    assert not folder.exists()


def test_without_root_there_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for argv in (["up", "-d"], ["up"], ["down"]):
        assert program.main(argv) == 1
        said = capsys.readouterr().err
        assert ("needs root" in said, said.count("\n")) == (True, 1)


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    assert "apt-get install iproute2 iptables nftables" in network.missing()


@pytest.mark.parametrize("command", ["apply", "delete"])
def test_standard_input_is_read_once(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert program.main(["--root", str(tmp_path), "--name", "m", command, "-f", "-", "-f", "-"]) == 1
    assert capsys.readouterr().err == "meshnode: -f - can be given once: standard input is at its end after that\n"


def test_a_container_that_cannot_be_made_says_why(tmp_path: pathlib.Path) -> None:
    reading, writing = os.pipe()
    try:
        assert launch.main(["launch.py", str(tmp_path / "nosuch.json"), str(writing)]) == 127
        assert b"No such file" in os.read(reading, 1000)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_file_replaces_a_link_and_its_folders_can_be_walked_by_anybody(tmp_path: pathlib.Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    link = closed / "resolv.conf"
    link.symlink_to("/run/nosuch")
    launch._write(str(link), "text", 0o644)
    launch._reveal(str(link))
    assert (link.read_text(), link.is_symlink(), closed.stat().st_mode & 0o777) == ("text", False, 0o701)


class Closed(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.root
def test_who_reads_no_further_ends_the_program_without_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    said = Closed()
    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", said)
    assert program.main(["--root", str(tmp_path), "--name", "m", "down"]) == 0
    assert said.closed

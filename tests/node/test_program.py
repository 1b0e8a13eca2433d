"""The program meshnode: up, work with it, down, and what is left after a crash."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import sys

import pytest

from node import __main__ as program
from node import home, network
from node.options import Options

SERVER = """\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: busybox, command: [sh, -c, "echo hello; exec sleep 1000"]}]
"""


async def meshnode(options: Options, *argv: str) -> tuple[int, str]:
    """Run the program; its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "node", "--root", str(options.root), "--name", "m", *argv),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.root
async def test_up_work_with_it_and_down(options: Options, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SERVER)
    code, out = await meshnode(options, "up", "--no-control-plane", "-d", "-f", str(file))
    assert (code, "mesh m is up" in out) == (0, True), out
    try:
        assert (await meshnode(options, "up", "--no-control-plane"))[1].startswith("meshnode: mesh m is up already")
        assert "1/1" in (await meshnode(options, "status"))[1]
        assert await meshnode(options, "logs", "a") == (0, "hello\n")
        assert await meshnode(options, "exec", "a", "--", "sh", "-c", "echo out; exit 3") == (3, "out\n")
        (tmp_path / "b.yaml").write_text(SERVER.replace("name: a,", "name: b,") + "---\nkind: [\n")
        code, out = await meshnode(options, "apply", "-f", str(tmp_path / "b.yaml"))
        assert (code, "M0001" in out) == (1, True)
        assert await meshnode(options, "kill", "b") == (0, "b\n")
        assert await meshnode(options, "delete", "Pod", "a") == (0, "Pod a deleted\n")
        assert await meshnode(options, "delete", "Pod", "a") == (1, "Pod a not found\n")
        assert await meshnode(options, "kill", "nosuch") == (1, "meshnode: no pod nosuch\n")
    finally:
        assert await meshnode(options, "down") == (0, "mesh m: all of it is removed\n")
    assert home.namespaces("m") == []
    assert await meshnode(options, "down") == (0, "mesh m: is not there\n")
    assert await meshnode(options, "status") == (1, "meshnode: mesh m is not up\n")


@pytest.mark.root
@pytest.mark.parametrize("cleaner", ["down", "another mesh"])
async def test_what_a_killed_meshnode_leaves_is_removed(options: Options, tmp_path: pathlib.Path, cleaner: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SERVER)
    assert (await meshnode(options, "up", "--no-control-plane", "-d", "-f", str(file)))[0] == 0
    assert len(home.namespaces("m")) == 2
    os.kill(home.owner(options.root, "m"), signal.SIGKILL)
    if cleaner == "down":
        assert (await meshnode(options, "down"))[0] == 0
    else:
        async with asyncio.timeout(10):
            while not await home.clean_dead(options.root):  # noqa: ASYNC110 (the kernel may not have ended it yet)
                await asyncio.sleep(0.05)
    assert home.namespaces("m") == []
    assert not [p for p in options.root.iterdir() if p.is_dir()]


def test_without_root_there_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert program.main(["up", "-d"]) == 1
    assert "needs root" in capsys.readouterr().err
    assert program.main(["up"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    assert "apt-get install iproute2 iptables nftables" in network.missing()

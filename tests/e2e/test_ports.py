"""Ports of rigs: two processes never get the same one, nor one that somebody listens on."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from e2e.harness import ports

OTHER = "import sys; from e2e.harness import ports; print(*ports.free_ports(400), flush=True); sys.stdin.read()"


def test_no_port_is_given_to_two_processes_nor_twice_to_one() -> None:
    ours = ports.free_ports(400)
    command = [sys.executable, "-c", OTHER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = {int(word) for word in other.stdout.readline().split()}
        more = set(ports.free_ports(400))
        other.communicate()
    assert (len(theirs), len(more), len(set(ours))) == (400, 400, 400)
    assert not theirs & set(ours)
    assert not more & theirs
    assert not more & set(ours)


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    (one, two) = ports.free_ports(2)
    monkeypatch.setattr(ports, "_RANGE", range(min(one, two), min(one, two) + 1))
    ports._ours.remove(min(one, two))
    with socket.create_server(("127.0.0.1", min(one, two))), pytest.raises(OSError, match="no 1 ports"):
        ports.free_ports(1)
    assert ports.free_ports(1) == [min(one, two)]

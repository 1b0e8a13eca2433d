"""The processes that are measured: starting them, and reading what they cost from /proc."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Final

from e2e.harness.ports import free_ports

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 300.0
_POD: Final = {
    "POD_NAME": "istiod-0",
    "POD_NAMESPACE": "istio-system",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(pathlib.Path(__file__).resolve().parent.parent / "build" / "pycache"),
}
"""As in the image, which has its byte code: without it a start costs twice as much."""


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


def cpu(pid: int) -> float:
    """CPU seconds that a process has used: user and system, in steps of 10 ms."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def rss(pid: int) -> float:
    """Resident memory of a process in MB."""
    return _status(pid, "VmRSS")


def peak_rss(pid: int) -> float:
    """The most that it ever was."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise BenchError(f"process {pid} is gone")


def until(what: str, ask: Callable[[], bool], patience: float = _PATIENCE, step: float = 0.05) -> None:
    """Ask until the answer is yes.

    Raises:
        BenchError: it never was.
    """
    end = time.monotonic() + patience
    while not ask():
        if time.monotonic() > end:
            raise BenchError(f"waited {patience:g} s in vain: {what}")
        time.sleep(step)


def settle(pid: int, idle: float, calm: float = 0.5) -> None:
    """Wait until a process has used no more than twice its ``idle`` share of a core for ``calm`` seconds."""
    since, last = time.monotonic(), cpu(pid)
    end = since + 60
    while time.monotonic() < end and time.monotonic() - since < calm:
        time.sleep(0.1)
        now = cpu(pid)
        if now - last > 0.1 * idle * 2 + 1.5 / _TICK:
            since = time.monotonic()
        last = now


def free_port() -> int:
    """A port that nobody else has, and that no outgoing connection of anybody is given meanwhile."""
    return free_ports(1)[0]


def fetch(url: str, data: bytes | None = None) -> Any:
    """What an HTTP server on loopback answers, as JSON; None while it does not answer."""
    try:
        with urllib.request.urlopen(url, data=data, timeout=60) as answer:  # noqa: S310 (our own URL on loopback)
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return None


def start(command: Sequence[str], log: pathlib.Path) -> subprocess.Popen[bytes]:
    """Start a program whose output goes to a file."""
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **_POD})


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that ``start`` started."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Istiod:
    """A control plane of its own process on loopback, with mTLS."""

    def __init__(self, home: pathlib.Path, source: Sequence[str], wrap: Sequence[str] = ()) -> None:
        """Start it; ``source`` are flags, see bench.sources, ``wrap`` is put before the module, for a profiler."""
        self.address = f"127.0.0.1:{free_port()}"
        self.pages = f"127.0.0.1:{free_port()}"
        self.ready_url = f"http://{self.pages}/ready"
        self._log = home / "istiod.log"
        program = [sys.executable, *(wrap or ("-m", "istiod")), "discovery", *source]
        program += ["--mtlsAddr", self.address, "--monitoringAddr", self.pages]
        self.process = start(program, self._log)

    def wait(self, step: float = 0.05) -> None:
        """Wait until everything is read and built; asked every ``step`` seconds.

        Raises:
            BenchError: it ended instead, or takes minutes.
        """
        until("istiod is ready", self._ready, step=step)

    def check(self) -> None:
        """See that it runs.

        Raises:
            BenchError: it has ended.
        """
        if (status := self.process.poll()) is not None:
            raise BenchError(f"istiod ended with {status}:\n{self._log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        self.check()
        try:
            with urllib.request.urlopen(self.ready_url, timeout=5) as answer:  # noqa: S310 (our own URL on loopback)
                return bool(answer.status == 200)
        except OSError:  # URLError, a refused connection, a time-out: it is busy
            return False


class Fleet:
    """The fake proxies (bench/fleet)."""

    def __init__(self, home: pathlib.Path, program: pathlib.Path, address: str, count: int, mode: str) -> None:
        """Start them; they connect at once."""
        self._control = f"http://127.0.0.1:{free_port()}"
        command = [str(program), "-addr", address, "-n", str(count), "-mode", mode]
        command += ["-control", self._control.removeprefix("http://"), "-nodes", str(home / "nodes.jsonl")]
        certificates = str(home / "clients" / "{ns}.{sa}.")
        command += ["-root", str(home / "root.pem"), "-cert", certificates + "crt", "-key", certificates + "key"]
        self.process = start(command, home / "fleet.log")

    def stats(self) -> Any:
        """See bench/fleet/control.go."""
        return fetch(f"{self._control}/stats")

    def complete(self) -> int:
        """How many clients have their first configuration."""
        stats = self.stats()
        return int(stats["complete"]) if stats else 0

    def marker(self, kind: str, change: int, since: int) -> Any:
        """Latencies of a change that was made at ``since`` (Unix time in ns)."""
        return fetch(f"{self._control}/marker?type={kind}&m={change}&t0={since}")

    def markers(self, kind: str, modulus: int, events: Sequence[tuple[int, int]]) -> Any:
        """Latencies of many changes, each a number and the time it was made."""
        told = [{"m": change, "t0": since} for change, since in events]
        return fetch(f"{self._control}/markers?type={kind}&mod={modulus}", json.dumps(told).encode())

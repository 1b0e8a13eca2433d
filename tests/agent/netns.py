"""Network namespaces for tests: made with names of this process, always removed, also when a test fails.

``pods()`` gives namespaces joined by a bridge, each with an address in 10.96.77.0/24 of its own little world: the
bridge stands in a namespace too, so that nothing of the machine is touched.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

_NUMBER = itertools.count()


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace. ``address`` is its IPv4 address, "" where it has none."""

    name: str
    address: str = ""

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def run(self, *command: str, check: bool = True, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        done = self.call(*command, stdin=stdin, env=env)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def call(
        self,
        *command: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **(env or {})},
        )

    def start(self, *command: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a program here (its pid is the program's: ip replaces itself by it). The caller ends it."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def serving(self, *command: str) -> Iterator[None]:
        """A program that says ``ready`` on its first line, until the block ends."""
        process = self.start(*command)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()
            process.communicate()

    def istio_iptables(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.call(sys.executable, "-m", "agent.iptables.apply", *args, env=env)

    def give(self, address: str) -> None:
        """An interface d0 with an address; its other end is in here too and leads nowhere."""
        self.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
        self.run("ip", "address", "add", address, "dev", "d0", *(["nodad"] if ":" in address else []))
        self.run("ip", "link", "set", "d0", "up")

    def rules(self, program: str = "iptables-save") -> list[str]:
        """What iptables-save says, without comments and counters of chains."""
        lines = self.run(program).splitlines()
        return [line.split(" [")[0] for line in lines if not line.startswith("#")]

    def counters(self, table: str = "nat") -> dict[str, int]:
        """Rule -> packets; in the nat table these are connections."""
        lines = [line for line in self.run("iptables-save", "-c", "-t", table).splitlines() if " -A " in line]
        return {line.partition("] ")[2]: int(line[1:].partition(":")[0]) for line in lines}


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A fresh namespace with ``lo`` up."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("iptables") is None:
        pytest.skip("needs root, iproute2 and iptables")
    space = Namespace(f"mesh{os.getpid()}-{next(_NUMBER)}")
    subprocess.run(["ip", "netns", "add", space.name], check=True)
    try:
        space.run("ip", "link", "set", "lo", "up")
        yield space
    finally:
        subprocess.run(["ip", "netns", "del", space.name], check=True)


@contextmanager
def pods(count: int) -> Iterator[list[Namespace]]:
    """Namespaces 10.96.77.1, .2, ... on one bridge, each with a default route through it."""
    with ExitStack() as stack:
        bridge = stack.enter_context(namespace())
        bridge.run("ip", "link", "add", "br0", "type", "bridge")
        bridge.run("ip", "address", "add", "10.96.77.254/24", "dev", "br0")
        bridge.run("ip", "link", "set", "br0", "up")
        made = []
        for number in range(1, count + 1):
            pod = Namespace(stack.enter_context(namespace()).name, f"10.96.77.{number}")
            pod.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"v{number}", "netns", bridge.name)
            pod.run("ip", "address", "add", f"{pod.address}/24", "dev", "eth0")
            pod.run("ip", "link", "set", "eth0", "up")
            pod.run("ip", "route", "add", "default", "via", "10.96.77.254")
            bridge.run("ip", "link", "set", f"v{number}", "master", "br0", "up")
            made.append(pod)
        yield made


def listening(space: Namespace) -> set[int]:
    """TCP ports on which somebody listens."""
    words = [line.split() for line in space.run("ss", "-Htln").splitlines()]
    return {int(word[3].rpartition(":")[2]) for word in words}


def dump(values: object) -> str:
    """A one-word form of values for command lines."""
    return json.dumps(values, separators=(",", ":"))

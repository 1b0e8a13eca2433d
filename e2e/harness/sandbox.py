"""A whole cluster in namespaces of its own: network, mounts, processes. What ends it ends everything in it.

The cluster runs under ``unshare --kill-child``: no interface, route, firewall rule, mount or process of it is on the
machine, and none outlives it. A caller enters its network to talk to it: a socket belongs to the namespace that its
thread was in when it was made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e.harness import images, tools
from e2e.harness.controlplane import Cluster
from e2e.harness.process import running, wait

_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PROGRAMS: Final = {
    "unshare": "util-linux",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "nft": "nftables",
    "ip": "iproute2",
}
_CGROUPS: Final = Path("/sys/fs/cgroup")
_START: Final = 120  # seconds
_END: Final = 20


def obstacle() -> str:
    """Why no cluster can run here; "" if one can."""
    if os.geteuid() != 0:
        return "a node needs root"
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    return f"missing Debian packages: {' '.join(sorted(missing))} (make node-packages installs them)" if missing else ""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A single-node cluster until the block ends: node Ready, DNS running, our images there.

    Its addresses are reachable inside ``network`` of it only; ``Cluster.call`` enters that by itself.

    Raises:
        ClusterError: a part does not start.
        tools.MissingProgramError: the Go programs are neither there nor can be built.
    """
    programs = tools.find()
    home = Path(tempfile.mkdtemp(prefix="e2e-node-"))
    try:
        images.build(programs, home / "images.tar")
        command = ["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child", "--", sys.executable, "-m"]
        environment = {"PYTHONPATH": str(tools.SOURCES.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
        node = [*command, "e2e.harness.node", str(home), str(programs.folder)]
        with running("node", node, home / "node.log", environment) as program:
            wait("cluster ready", (home / "ready").exists, [program], _START)
            yield Cluster(
                kubeconfig=home / "pki" / "admin.kubeconfig",
                server=(home / "ready").read_text(),
                tools=programs,
                home=home,
                namespace=Path(f"/proc/{_child(program.process.pid)}/ns/net"),
            )
    finally:
        shutil.rmtree(home, ignore_errors=True)
        _remove_cgroups(home.name)


@contextmanager
def network(there: Cluster) -> Iterator[None]:
    """This thread, and all that it starts, in the cluster's network until the block ends."""
    if there.namespace is None:
        yield
        return
    with Path("/proc/thread-self/ns/net").open("rb") as before, there.namespace.open("rb") as inside:
        _enter(inside.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _child(pid: int) -> int:
    """The process that unshare forked, by its number here."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _remove_cgroups(name: str) -> None:
    """Remove the cgroups below ``name``: they belong to the kernel, not to a namespace, and to dying processes."""
    roots = [root for root in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")) if root.is_dir()]

    def gone() -> bool:
        for root in roots:
            for folder in sorted([root, *(each for each in root.rglob("*") if each.is_dir())], reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return not any(root.exists() for root in roots)

    wait(f"cgroups {name} empty", gone, seconds=_END)


def shell() -> int:
    """An interactive shell with kubectl and helm in a cluster's network, which ends with it; the shell's exit code.

    The cluster is the one that ``E2E_KUBECONFIG`` names, or one of our own.
    """
    named = os.environ.get("E2E_KUBECONFIG")
    reason = "" if named else obstacle()
    if reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    with contextlib.ExitStack() as stack:
        if named:
            there = Cluster(kubeconfig=Path(named).resolve(), server="", tools=tools.find(), home=Path.home())
        else:
            there = stack.enter_context(cluster())
        stack.enter_context(network(there))
        sys.stderr.write("== kubectl and helm talk to the cluster; one of our own ends with this shell\n")
        environment = {**os.environ, "KUBECONFIG": str(there.kubeconfig), "PS1": "cluster \\w$ "}
        environment["PATH"] = f"{there.tools.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(shell())

"""The node's network: one namespace that routes, one per pod behind it, and Services' addresses in between.

The host is untouched: the node itself is a namespace without a way out. Each pod has a veth with a /32 and its default
route through the node, so that every packet between pods is routed there and meets the node's rules, also on its way
back. Pods keep their own netfilter tables for sidecars.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pathlib
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from node.errors import CommandError, MeshError
from node.services import DNS_ADDRESS, SERVICE_NETWORK

NODE_ADDRESS = "10.244.0.1"
FOLDER = pathlib.Path("/run/netns")
_NEWNET = 0x40000000
_PACKAGES = {"ip": "iproute2", "nft": "nftables", "iptables": "iptables", "iptables-restore": "iptables"}

T = TypeVar("T")


def missing() -> str:
    """What this machine lacks to run a mesh, as one line; "" if nothing."""
    if os.geteuid() != 0:
        return "a mesh on this machine needs root: network namespaces and iptables are made with it (try sudo)"
    lacking = [name for name in _PACKAGES if shutil.which(name) is None]
    if lacking:
        packages = " ".join(sorted({_PACKAGES[name] for name in lacking}))
        return f"not found: {', '.join(lacking)}; on Debian: apt-get install {packages}"
    return ""


async def command(*argv: str, text: str = "") -> str:
    """Run a command of the machine; its output.

    Raises:
        CommandError: it could not be started or did not end with 0.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise CommandError(f"{argv[0]}: {error}") from error
    try:
        out, wrong = await process.communicate(text.encode())
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise CommandError(f"{' '.join(argv)}: {wrong.decode(errors='replace').strip()}")
    return out.decode(errors="replace")


def _enter(path: pathlib.Path) -> None:
    """Move the calling thread into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as namespace:
        if libc.setns(namespace.fileno(), _NEWNET) != 0:
            number = ctypes.get_errno()
            raise MeshError(f"enter {path.name}: {os.strerror(number)}")


def _close(made: Future[socket.socket]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()


class Inside:
    """A thread that lives in a network namespace: sockets that it makes stay there, whoever uses them."""

    def __init__(self, path: pathlib.Path) -> None:
        """Enter the namespace at ``path`` with the first call."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=path.name, initializer=_enter, initargs=(path,))

    async def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns when it runs in there."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def new_socket(self, kind: socket.SocketKind) -> socket.socket:
        """A new IPv4 socket of that namespace, not blocking."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.settimeout(0)
            return made

        making = self._pool.submit(make)
        try:
            return await asyncio.wrap_future(making)
        except asyncio.CancelledError:
            making.add_done_callback(_close)  # the thread may have made it all the same
            raise

    async def connect(self, address: str, port: int) -> socket.socket:
        """A TCP connection from inside.

        Raises:
            OSError: nobody answers there.
        """
        made = await self.new_socket(socket.SOCK_STREAM)
        try:
            await asyncio.get_running_loop().sock_connect(made, (address, port))
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


def _set(name: str, value: str) -> None:
    """Set a sysctl of the calling thread's network namespace."""
    pathlib.Path("/proc/sys/net", name).write_text(value)


def _open_ports() -> None:
    """Let any user of a pod listen on port 80, as container runtimes do."""
    _set("ipv4/ip_unprivileged_port_start", "0")


class Network:
    """The namespaces of one mesh; all their names start with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        """Make nothing yet."""
        self.prefix = prefix
        self.node_path = FOLDER / f"{prefix}node"
        self.inside = Inside(self.node_path)

    async def open(self) -> None:
        """Make the node's namespace.

        Raises:
            MeshError: the machine does not let us.
        """
        await command("ip", "netns", "add", self.node_path.name)
        lines = [
            "link set lo up",
            f"address add {NODE_ADDRESS}/32 dev lo",
            f"address add {DNS_ADDRESS}/32 dev lo",
            # so that the node's own connections to a cluster IP get as far as the rules
            f"route add {SERVICE_NETWORK} dev lo src {NODE_ADDRESS}",
        ]
        await command("ip", "-n", self.node_path.name, "-batch", "-", text="\n".join(lines) + "\n")
        await self.inside.call(lambda: _set("ipv4/ip_forward", "1"))

    def path(self, number: int) -> pathlib.Path:
        """The namespace of the pod with that number."""
        return FOLDER / f"{self.prefix}{number}"

    async def attach(self, number: int, address: str) -> None:
        """Make a pod's namespace with this address.

        Raises:
            CommandError: the machine does not let us.
        """
        name, node, link = self.path(number).name, self.node_path.name, f"pod{number}"
        await command("ip", "netns", "add", name)
        inner = [
            "link set lo up",
            f"link add eth0 type veth peer name {link} netns {node}",
            f"address add {address}/32 dev eth0",
            "link set eth0 up",
            f"route add {NODE_ADDRESS} dev eth0 scope link",
            f"route add default via {NODE_ADDRESS} dev eth0",
        ]
        await command("ip", "-n", name, "-batch", "-", text="\n".join(inner) + "\n")
        outer = [
            f"link set {link} up",
            f"address add {NODE_ADDRESS}/32 dev {link}",
            f"route add {address}/32 dev {link}",
        ]
        await command("ip", "-n", node, "-batch", "-", text="\n".join(outer) + "\n")
        pod = Inside(self.path(number))
        try:
            await pod.call(_open_ports)
        finally:
            pod.close()

    async def detach(self, number: int) -> None:
        """Remove a pod's namespace, if it is there."""
        if self.path(number).exists():
            await command("ip", "netns", "delete", self.path(number).name)

    async def load(self, script: str) -> None:
        """Put nftables rules into the node's namespace.

        Raises:
            CommandError: nft refuses them.
        """
        await command("ip", "netns", "exec", self.node_path.name, "nft", "-f", "-", text=script)

    def close(self) -> None:
        """End the thread in the node's namespace. node.home removes the namespaces."""
        self.inside.close()

"""What the kernel knows of the connections that a running Envoy holds: the other end sees no options of sockets."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PIDFD_GETFD = 438
"""The number of the system call, which Python has no name for; the same on every architecture."""
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """Probes of an idle connection: how many, after how many seconds, and how many seconds apart."""

    probes: int
    time: int
    interval: int


def probed(pid: int, address: str, port: int) -> set[Keepalive]:
    """How the connections of a process to an address and port are probed; those that are not are left out."""
    found = set()
    for one in _connections(pid):
        with one:
            if _peer(one) == (address, port) and one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
                names = (socket.TCP_KEEPCNT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
                probes, time, interval = (one.getsockopt(socket.IPPROTO_TCP, name) for name in names)
                found.add(Keepalive(probes=probes, time=time, interval=interval))
    return found


def _connections(pid: int) -> Iterator[socket.socket]:
    """The sockets of a process, each as one of ours."""
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if not str(entry.readlink()).startswith("socket:"):
                    continue
            except FileNotFoundError:  # closed since
                continue
            number = _LIBC.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
            if number >= 0:
                yield socket.socket(fileno=number)
            elif (error := ctypes.get_errno()) != errno.EBADF:  # else closed since
                raise OSError(error, os.strerror(error))
    finally:
        os.close(process)


def _peer(one: socket.socket) -> tuple[str, int] | None:
    if one.family != socket.AF_INET:
        return None
    try:
        host, port = one.getpeername()
    except OSError:
        return None
    return str(host), int(port)

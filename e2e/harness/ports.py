"""Ports for programs that must be told theirs before they start: nobody else is given one while this process lives.

A port that was bound to 0 and let go is anybody's: the kernel gives it to the next outgoing connection, or to another
rig, whose Envoy then shares it without a word (it listens with SO_REUSEPORT). So these are none of those that the
kernel gives out by itself, none of Kubernetes' node ports, and each is locked in a file that all processes share.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import functools
import os
import pathlib
import random
import socket
import tempfile

_RANGE = range(20_000, 30_000)
_KEPT = 1_000
"""How many a process keeps; of a long one the oldest are given back, which its tests have long done with."""
_CHANCE = random.SystemRandom()
_ours: collections.deque[int] = collections.deque()


@functools.cache
def _ledger() -> int:
    """The file of which each port is a byte to lock. It stays open: a process loses its locks when it closes it."""
    path = pathlib.Path(tempfile.gettempdir(), f"ports-of-rigs-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _unused(port: int) -> bool:
    """Whether nobody listens there, on any address."""
    with socket.socket() as streams, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        try:
            streams.bind(("", port))
            datagrams.bind(("", port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Keep a port from all others; False if somebody has it."""
    if port in _ours:
        return False
    with contextlib.suppress(OSError):
        fcntl.lockf(_ledger(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        if _unused(port):
            _ours.append(port)
            return True
        fcntl.lockf(_ledger(), fcntl.LOCK_UN, 1, port)
    return False


def free_ports(count: int) -> list[int]:
    """Ports that are this process's alone from now on.

    Raises:
        OSError: there are not so many.
    """
    found: list[int] = []
    for port in _CHANCE.sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            break
        if _reserve(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"no {count} ports of {_RANGE} are free")
    while len(_ours) > max(_KEPT, count):
        fcntl.lockf(_ledger(), fcntl.LOCK_UN, 1, _ours.popleft())
    return found

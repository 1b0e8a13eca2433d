"""The TCP connections below gRPC: how far a client has read, and cutting one that does not (faults FT14 and FT15).

grpc.aio can neither end an RPC nor send its status while a message waits for the client's window, and a client that
answers pings keeps its connection alive: without this its RPC would live until the connection's age limit. The sockets
are this process's own and are found by their peer, so nothing of gRPC's inside is touched. Linux only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
import struct
import urllib.parse
from collections.abc import Iterator
from typing import Final

_BYTES_ACKED: Final = 120
"""Offset of tcpi_bytes_acked (64 bits) in Linux's struct tcp_info (linux/tcp.h)."""
_TCP_INFO_SIZE: Final = 128

Endpoint = tuple[str, int]


class Sockets:
    """The connected sockets of this process, by peer. One look at all of them serves for many that are cut at once."""

    def __init__(self) -> None:
        self._known: dict[Endpoint, int] = {}

    def acked(self, peer: str) -> int | None:
        """How many bytes the peer's machine has acknowledged; None if there is no such connection.

        ``peer`` is as gRPC names it, such as ``ipv4:10.0.0.1:40000``.
        """
        with self._found(peer) as found:
            if found is None:
                return None
            info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
            return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0])

    def cut(self, peer: str) -> bool:
        """End the peer's connection for both sides; False if there is none. gRPC sees its end and cleans up."""
        with self._found(peer) as found:
            if found is None:
                return False
            found.shutdown(socket.SHUT_RDWR)
            return True

    @contextlib.contextmanager
    def _found(self, peer: str) -> Iterator[socket.socket | None]:
        """The peer's socket, borrowed: a duplicate that is closed again, so that a number used anew does no harm."""
        wanted = endpoint(peer)
        if wanted is None:
            yield None
            return
        if _peer_of(self._known.get(wanted, -1)) != wanted:
            self._known = {at: number for number in _numbers() if (at := _peer_of(number)) is not None}
        try:
            borrowed = socket.socket(fileno=os.dup(self._known.get(wanted, -1)))
        except OSError:
            yield None
            return
        with borrowed:
            yield borrowed if _peer_of(borrowed.fileno()) == wanted else None


def endpoint(peer: str) -> Endpoint | None:
    """The address and port in gRPC's name of a peer; None for what is no TCP connection."""
    family, _, rest = urllib.parse.unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if family not in {"ipv4", "ipv6"} or not port.isdecimal():
        return None
    return _plain(host.strip("[]")), int(port)


def _plain(host: str) -> str:
    """One form per address: an IPv4 client of an IPv6 socket has both."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _numbers() -> Iterator[int]:
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (numbers, not paths)
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                yield number


def _peer_of(number: int) -> Endpoint | None:
    """Where a file descriptor is connected to over TCP; None if it is no such socket."""
    if number < 0:
        return None
    try:
        looked = socket.socket(fileno=number)
    except OSError:
        return None
    try:
        host, port, *_ = looked.getpeername()
        return _plain(host), port
    except (OSError, ValueError):  # not connected, or a local socket
        return None
    finally:
        looked.detach()

"""Packets that are lost on one way only: who does not hear us is cut, though it is heard (fault FT48)."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import time

import pytest

from istiod.grpcserver import frames
from istiod.grpcserver.deadlines import Limits
from tests.grpcserver.test_server import plain_head, served
from tests.waiting import until

_SO_ATTACH_FILTER = 26
"""Linux: asm-generic/socket.h; Python's socket has no name for it."""


class Peer:
    """A client of plain sockets that has a call, and room in HTTP/2 for everything."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.socket.connect(("127.0.0.1", port))
        room = 2**31 - 1
        settings = frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: room})
        self.socket.sendall(
            frames.PREFACE + settings + frames.window_update(0, room - frames.DEFAULT_WINDOW) + plain_head()
        )
        self.socket.settimeout(0)

    def lose(self) -> None:
        """From now on nothing reaches it, not even acknowledgements; what it says goes out (a socket filter)."""
        drop_all = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # BPF: return 0
        program = struct.pack("@HP", 1, ctypes.addressof(drop_all))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def speak(self) -> None:
        """Ask whether the server is there."""
        with contextlib.suppress(OSError):
            self.socket.send(frames.frame(frames.PING, 0, 0, bytes(8)))

    def read(self, count: int) -> None:
        """Take so many bytes, if they are there."""
        with contextlib.suppress(OSError):
            self.socket.recv(count)


async def test_who_is_heard_and_hears_nothing_is_cut_and_who_reads_nothing_or_little_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rows FT48, FT15: packets are lost from the server to a client only."""
    caplog.set_level("DEBUG")
    async with served(Limits(unacked=1.0, write=60.0, grace=1.0)) as (made, port):
        stuck, slow, lost = (Peer(port) for _ in range(3))
        await until(lambda: len(made.calls) == 3, "all call")
        connections = list(made.server._connections)
        for connection in connections:
            connection._channel._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        for call in made.calls[:2]:
            call.stream.send(b"x" * 1_000_000)
        await until(lambda: sum(bool(c._unsent) for c in connections) == 2, "more than two machines take")
        lost.lose()
        began = time.monotonic()

        def round_() -> bool:
            for peer in (stuck, slow, lost):
                peer.speak()
            slow.read(100)
            return made.server.connections == 2

        await until(round_, "the one that hears nothing is cut")
        assert "its machine acknowledged nothing for 1 s" in caplog.text
        assert time.monotonic() - began >= 1.0
        since = time.monotonic()
        await until(lambda: round_() and time.monotonic() > since + 2.0, "the others stay")
        for peer in (stuck, slow, lost):
            peer.socket.close()

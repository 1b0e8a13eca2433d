"""A connected socket that never blocks, plain or under TLS.

TLS runs straight on the socket: without asyncio's own layer of buffers and without memory BIOs, both of which cost more
than the encryption of a small message (docs/decisions/0011-own-transport.md).
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

CHUNK: Final = 64 * 1024
"""Bytes that are read or written at once."""
_RECORD: Final = 16 * 1024
"""Bytes of a record of TLS at most (RFC 8446 section 5.1)."""
_UNACKED: Final = 24
"""Offset of tcpi_unacked (32 bits) in Linux's struct tcp_info (linux/tcp.h): segments sent and not acknowledged."""
_BYTES_ACKED: Final = 120
"""Offset of tcpi_bytes_acked (64 bits)."""
_NOT_SENT: Final = 144
"""Offset of tcpi_notsent_bytes (32 bits)."""
_SEND_WINDOW: Final = 228
"""Offset of tcpi_snd_wnd (32 bits): the window that the other end gave last. Linux has it since 5.4."""
_TCP_INFO_SIZE: Final = 232
_SHORTEST_INFO: Final = 148
"""Without it."""


class ChannelError(Exception):
    """The connection is gone, or TLS failed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of the bytes written.

    ``acked``: how many the client's machine has acknowledged. ``under_way``: some are sent, and not acknowledged though
    its window is open. ``whole``: it has acknowledged all.
    """

    acked: int = 0
    under_way: bool = False
    whole: bool = False


NO_DELIVERY: Final = Delivery()


class Channel:
    """A plain connection. Every method answers at once."""

    secure = False
    most = CHUNK
    """Bytes that one read gives at most: where it gives fewer, nothing more has come."""

    def __init__(self, plain: socket.socket) -> None:
        """Take a connected socket over."""
        self._socket = plain
        plain.settimeout(0)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def shake(self) -> bool:
        """Go on with the handshake; whether it is over.

        Raises:
            ChannelError: it failed.
        """
        return True

    def certificate(self) -> bytes | None:
        """What the client proved to hold, as DER; None for none. After the handshake."""
        return None

    def read(self) -> bytes | None:
        """What has come, up to ``most`` bytes; b"" at the end, None for nothing yet. Under TLS one record.

        Raises:
            ChannelError: the connection is gone.
        """
        try:
            return self._socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:  # ssl.SSLError among them
            raise ChannelError(str(error)) from error

    def write(self, data: bytes | memoryview) -> int:
        """How many bytes were taken; after 0 the same bytes have to be offered again.

        Raises:
            ChannelError: the connection is gone.
        """
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise ChannelError(str(error)) from error

    def delivery(self) -> Delivery:
        """How far what was written has come."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        except OSError:  # gone: the next read tells
            return NO_DELIVERY
        if len(info) < _SHORTEST_INFO:
            return NO_DELIVERY
        unacked, waiting = _word(info, _UNACKED), _word(info, _NOT_SENT)
        is_open = len(info) < _TCP_INFO_SIZE or _word(info, _SEND_WINDOW) > 0
        return Delivery(
            acked=int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0]),
            under_way=unacked > 0 and is_open,
            whole=not (unacked or waiting),
        )

    def shut(self) -> None:
        """Say that nothing more will come."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


class SecureChannel(Channel):
    """A connection under TLS."""

    secure = True
    most = _RECORD

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        """Take a connected socket over; the handshake is yet to come."""
        super().__init__(plain)
        self._tls = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._socket = self._tls

    def shake(self) -> bool:
        """See Channel."""
        try:
            self._tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise ChannelError(str(error)) from error
        return True

    def certificate(self) -> bytes | None:
        """See Channel."""
        return self._tls.getpeercert(binary_form=True)

    def read(self) -> bytes | None:
        """See Channel. As there, without a layer of Python's ssl."""
        try:
            return self._tls.read(CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            raise ChannelError(str(error)) from error


def _word(info: bytes, offset: int) -> int:
    return int(struct.unpack_from("=I", info, offset)[0])

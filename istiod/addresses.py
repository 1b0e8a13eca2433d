"""Addresses to listen on, HOST:PORT, as flags give them."""

from __future__ import annotations

import socket
from typing import Final

_LAST_PORT: Final = 65_535


def require_port(address: str) -> None:
    """See that HOST:PORT ends with a port; "" is no server.

    Raises:
        ValueError: it does not.
    """
    port = address.rpartition(":")[2]
    if address and not (port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ValueError(f"{address}: {port!r} is no port from 0 to {_LAST_PORT}")


def bindable(address: str) -> str:
    """The same with a host: ``:15012`` is every address of the machine, of both versions where it has both."""
    if not address.startswith(":"):
        return address
    return f"[::]{address}" if socket.has_dualstack_ipv6() else f"0.0.0.0{address}"  # noqa: S104 (what ``:PORT`` means)


def require_free(address: str) -> None:
    """See that HOST:PORT can be bound: gRPC's own complaint is several lines long, and does not give the reason.

    Raises:
        OSError: it is taken, or not ours.
    """
    host, _, port = bindable(address).rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        raise OSError(error.errno, f"{address}: {error.strerror}") from error

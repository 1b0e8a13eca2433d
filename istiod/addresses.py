"""Addresses to listen on, HOST:PORT, as flags give them."""

from __future__ import annotations

from typing import Final

_LAST_PORT: Final = 65_535


def require_port(address: str) -> None:
    """See that HOST:PORT ends with a port; "" is no server.

    Raises:
        ValueError: it does not.
    """
    _, colon, port = address.rpartition(":")
    if address and not colon:
        raise ValueError(f"{address}: no HOST:PORT; :{address} is that port of every address")
    if address and not (port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ValueError(f"{address}: {port!r} is no port from 0 to {_LAST_PORT}")

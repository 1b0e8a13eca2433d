"""istiod's name, looked up, and what it stood for last where it cannot be looked up any more (fault FT31).

gRPC would forget: each of the agent's calls has a connection of its own, since each shows what it has at that time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

SECONDS: Final = 5.0
"""How long a look-up may take; a name server that keeps silent holds its thread for longer."""
_LOG: Final = logging.getLogger("agent")

LookUp = Callable[[str], Iterable[str]]
"""Addresses of a name. Raises OSError."""


def _looked_up(host: str) -> Iterable[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class Addresses:
    """What names stood for, for as long as the agent lives."""

    def __init__(self, look_up: LookUp = _looked_up) -> None:
        """Ask ``look_up``, in threads of our own: the event loop's would keep the agent from ending."""
        self._look_up = look_up
        self._known: dict[str, tuple[str, ...]] = {}

    async def target(self, address: str) -> str:
        """HOST:PORT as gRPC takes it: with the addresses of the host, as they are or were last.

        Raises:
            OSError: it is not known, and never was.
        """
        host, _, port = address.rpartition(":")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            found = await self._addresses(host)
        else:
            return address
        six = [f"[{each}]:{port}" for each in found if ":" in each]
        if ":" in found[0]:
            return f"ipv6:{','.join(six)}"
        return f"ipv4:{','.join(f'{each}:{port}' for each in found if ':' not in each)}"

    async def _addresses(self, host: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(SECONDS):
                found = await self._ask(host)
        except OSError as error:  # TimeoutError is one
            if host not in self._known:
                raise OSError(f"cannot look up {host}: {error or 'no answer'}") from error
            _LOG.warning("cannot look up %s, its addresses before are used: %s", host, error or "no answer")
        else:
            self._known[host] = found
        return self._known[host]

    async def _ask(self, host: str) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

        def take(done: Callable[[Any], None], value: object) -> None:
            if not answer.done():
                done(value)

        def ask() -> None:
            try:
                found = tuple(dict.fromkeys(self._look_up(host)))
                told: tuple[Callable[[Any], None], object] = (answer.set_result, found)
            except OSError as error:
                told = (answer.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(take, *told)

        threading.Thread(target=ask, name="look-up", daemon=True).start()
        return await answer

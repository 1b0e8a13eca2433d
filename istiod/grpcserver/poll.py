"""An epoll of the server's own, below one entry in the event loop (docs/decisions/0045-own-epoll.md).

A connection that waits for its turn is taken off and put on again, a dozen times while a proxy gets its first
configuration, and asyncio's loop makes two objects and asks two layers of dictionaries for each. Here it is a number.
"""

from __future__ import annotations

import asyncio
import logging
import select
from typing import Final, Protocol

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
NOTHING: Final = 0
AT_ONCE: Final = 256
"""Sockets that are looked at in one round of the loop; the others are in the next."""
_LOGGER = logging.getLogger(__name__)


class Watched(Protocol):
    """Whoever has a socket. Called in the event loop's thread, at an error of the socket for whatever it waits for."""

    def readable(self) -> None:
        """Something came, or the end."""
        ...

    def writable(self) -> None:
        """There is room."""
        ...


class Poll:
    """Sockets, by number, and what each waits for. Has to be closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, tuple[Watched, int]] = {}

    def watch(self, number: int, who: Watched, what: int) -> None:
        """Have ``who`` called for what its socket waits for from now on: READ, WRITE, both, or NOTHING.

        A socket that waits for nothing is taken off: epoll tells of one that is gone whether asked or not, again and
        again. Before a socket is closed it has to be.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._look)
        before = self._waiting.get(number)
        if not what:
            if before is not None:
                del self._waiting[number]
                self._epoll.unregister(number)
            return
        self._waiting[number] = who, what
        if before is None:
            self._epoll.register(number, what)
        elif before[1] != what:
            self._epoll.modify(number, what)

    def close(self) -> None:
        """Nobody is called any more. Again, it does nothing."""
        if self._epoll.closed:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._waiting.clear()

    def _look(self) -> None:
        for number, events in self._epoll.poll(0, AT_ONCE):
            if events & ~WRITE:
                self._tell(number, READ)
            if events & ~READ:
                self._tell(number, WRITE)

    def _tell(self, number: int, event: int) -> None:
        """Call whoever waits for it still: one that was called before may have ended this one."""
        who, what = self._waiting.get(number, (None, NOTHING))
        if who is None or not what & event:
            return
        try:
            if event == READ:
                who.readable()
            else:
                who.writable()
        except Exception:  # a bug: as in asyncio's loop, it keeps nobody else from being called
            _LOGGER.exception("a connection failed")

"""How the parts of the process are kept running, and how it speaks to the operator."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

LEAVE: Final = 3.0
"""Seconds: three periods in which a busy node's rules follow the API server."""
RESTART_DELAY: Final = 1.0
"""Seconds before a part that failed is started again."""
SILENCE: Final = 60.0
"""Seconds for which the same line is not said again: what comes and goes must not fill the log."""
_LOG = logging.getLogger(__name__)

Part = tuple[str, Callable[[], Awaitable[None]]]
"""A name for the log, and what runs until it is cancelled."""


class SettingsError(Exception):
    """The settings can't work; the message says which and why."""


def now() -> dt.datetime:
    """The wall clock, aware."""
    return dt.datetime.now(dt.UTC)


async def supervise(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Run a part for ever: one that fails is logged with its traceback and started again, the others go on.

    So is one that ends since something that it waited for was cancelled: a task group would take no notice of it.
    """
    while True:
        try:
            await part()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            _LOG.exception(
                "%s was cancelled by something that it waited for; it starts again in %s s", name, RESTART_DELAY
            )
        except Exception:  # noqa: BLE001 (a bug in one part must not take the running mesh down; it is logged whole)
            _LOG.exception("%s failed; it starts again in %s s", name, RESTART_DELAY)
        await asyncio.sleep(RESTART_DELAY)


class Running:
    """The tasks of the process, ended together."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, part: Coroutine[object, object, None], name: str) -> None:
        """Run something once; its error ends the process."""
        self._tasks.append(self._group.create_task(part, name=name))

    def supervise(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part for ever."""
        self.start(supervise(name, part), name)

    def cancel(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()


class Leaving:
    """The last seconds of a pod behind a Service: it serves as ever while the nodes hear that it is about to end (FT9).

    Kubernetes tells the pod and the nodes at the same moment. One that closed its ports at once would have admissions
    refused, which come once each, for as long as some node leads them there.
    """

    def __init__(self, *, awaited: bool) -> None:
        self._awaited = awaited
        self._begun = False

    async def over(self, *, hurried: bool) -> None:
        """Wait, if anybody may come: where it is ``hurried``, nobody is waited for."""
        if self._awaited and not hurried:
            self._begun = True
            await asyncio.sleep(LEAVE)

    def waiting(self) -> tuple[str, ...]:
        """Why it is not ready, if it is not for this reason."""
        return ("an end: this istiod was told to",) if self._begun else ()


def say(line: str) -> None:
    """One line for the operator, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Lines:
    """Lines for the operator, each at most once in SILENCE seconds (fault FT17)."""

    def __init__(self, emit: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._emit = emit
        self._clock = clock
        self._said: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Say it, unless it was said just now."""
        now = self._clock()
        while self._said and now >= self._said[oldest := next(iter(self._said))] + SILENCE:  # in order of time
            del self._said[oldest]
        if line not in self._said:
            self._said[line] = now
            self._emit(line)

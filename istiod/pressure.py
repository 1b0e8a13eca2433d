"""How near the process is to its limit of memory, and what follows from it (fault FT44).

Above SHED no new stream of xDS is begun: what is connected goes on being served, and who comes is sent elsewhere.
Above SPENT, for as long as PATIENCE, the process ends in order and is started anew, before the kernel kills it amid its
work. Who is refused, and how, is the servers' (istiod.ads.server).

The limit is the control group's, of which a container has its own (Linux: Documentation/admin-guide/cgroup-v1/memory,
cgroup-v2); page cache that the kernel may drop counts as free, as for the kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from wire import exposition
from wire.exposition import Family

SHED: Final = 0.85
CALM: Final = 0.80
"""Below it streams are begun again: a mark of its own, so that one stream more or less does not turn it."""
SPENT: Final = 0.97
PATIENCE: Final = 10.0
"""Seconds above SPENT."""
_MINE: Final = 0.5
"""Of what is used, what has to be this process's, so that to end it helps: others may be in its control group."""
PERIOD: Final = 1.0
"""Seconds between two looks while nobody comes."""
FRESH: Final = 0.05
"""Seconds for which a look holds while many come: a hundred streams take less than a mark has room for."""
_UNLIMITED: Final = 1 << 60
"""What version 1 says where there is no limit is about 2^63."""
_TREE: Final = pathlib.Path("/sys/fs/cgroup")
_OWN: Final = pathlib.Path("/proc/self/cgroup")
_STATM: Final = pathlib.Path("/proc/self/statm")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MEBIBYTE: Final = 1024 * 1024
_LOG: Final = logging.getLogger(__name__)


class Meter(Protocol):
    """Where memory is measured; bytes."""

    @property
    def limit(self) -> int:
        """What the process may use."""
        ...

    def used(self) -> int:
        """What it uses.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A control group with a limit, which may be changed under way (in-place resize of pods).

    ``most`` and ``usage`` name its files, ``droppable`` the line of its memory.stat.
    """

    folder: pathlib.Path
    most: str
    usage: str
    droppable: str

    @property
    def limit(self) -> int:
        """The present one; a very large number for none."""
        with contextlib.suppress(OSError):
            said = (self.folder / self.most).read_text().strip()
            return int(said) if said.isdecimal() else _UNLIMITED
        return _UNLIMITED

    def used(self) -> int:
        """What the group uses, but for inactive pages of files."""
        lines = (line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        droppable = next((int(value) for name, value in lines if name == self.droppable), 0)
        return int((self.folder / self.usage).read_text()) - droppable


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """This process alone, against a limit that the operator names."""

    limit: int

    def used(self) -> int:
        """Its resident memory."""
        return _resident()


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE


def meter(named: int, own: pathlib.Path = _OWN, tree: pathlib.Path = _TREE) -> Meter | None:
    """What to look at: the limit that was ``named`` (bytes), else that of the nearest control group; None: no limit."""
    if named:
        return Process(limit=named)
    try:
        return next(_groups(own.read_text(), tree), None)
    except OSError:
        return None


def _groups(own: str, tree: pathlib.Path) -> Iterator[Group]:
    """Control groups with a limit, of version 1 or 2, from the process's own up."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _limited(tree / "memory", path, *names)
        elif not controllers:
            yield from _limited(tree, path, "memory.max", "memory.current", "inactive_file")


def _limited(top: pathlib.Path, path: str, limit: str, usage: str, droppable: str) -> Iterator[Group]:
    own = top / path.strip("/")  # a container sees its own group at the top, whatever its path is outside
    for folder in (own, *own.parents):
        if not folder.is_relative_to(top):
            return
        said = (folder / limit).read_text().strip() if (folder / limit).is_file() else "max"
        if said.isdecimal() and int(said) < _UNLIMITED:
            yield Group(folder=folder, most=limit, usage=usage, droppable=droppable)


class Pressure:
    """The marks of one process. ``clock`` gives monotonic seconds; without a meter there is never any pressure."""

    def __init__(self, found: Meter | None, clock: Callable[[], float]) -> None:
        self._meter = found
        self._clock = clock
        self._looked = float("-inf")
        self._since: float | None = None
        self._shedding = False
        self.used = 0
        self.shed = 0
        """Streams that were refused."""

    def refusal(self) -> str:
        """Why no stream is begun now, for whom it is not; "" where it is. Each call that gives a reason is counted."""
        now = self._clock()
        if self._meter is not None and now >= self._looked + FRESH:
            self._measure(now)
        if not self._shedding:
            return ""
        self.shed += 1
        return "this istiod is short of memory and serves those that it has: ask again, another replica may answer"

    @property
    def shedding(self) -> bool:
        """Whether, at the last look, no stream was to be begun."""
        return self._shedding

    def look(self) -> bool:
        """Measure; whether memory has been spent for too long."""
        if self._meter is None:
            return False
        now = self._clock()
        self._measure(now)
        if self.used < SPENT * self._meter.limit or _resident() < self.used * _MINE:
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now >= self._since + PATIENCE

    async def watch(self, stop: Callable[[], None]) -> None:
        """Look for ever; ``stop`` ends the process."""
        told = False
        while True:
            if self.look():
                _LOG.error("memory is spent (%s): ending in order", self)
                stop()
            if self._shedding:
                _give_back()
            if self._shedding is not told:  # newcomers measure, too
                told = self._shedding
                said = "new streams are refused" if self._shedding else "new streams are served again"
                _LOG.warning("memory: %s, %s", self, said)
            await asyncio.sleep(PERIOD)

    def families(self) -> Iterator[Family]:
        """For a scrape."""
        limit = self._meter.limit if self._meter is not None else 0
        yield exposition.of("pilot_memory_limit_bytes", "gauge", "Memory that may be used; 0: no limit.", limit)
        yield exposition.of("pilot_memory_used_bytes", "gauge", "What of it is used, at the last look.", self.used)
        text = "Streams that were refused since memory was short."
        yield exposition.of("pilot_xds_shed_total", "counter", text, self.shed)

    def __str__(self) -> str:
        limit = self._meter.limit if self._meter is not None else 0
        return f"{self.used // _MEBIBYTE} of {limit // _MEBIBYTE} MiB"

    def _measure(self, now: float) -> None:
        if self._meter is None:
            return
        self._looked = now
        try:
            self.used = self._meter.used()
        except (OSError, ValueError) as error:
            _LOG.warning("memory cannot be measured: %s", error)
            self._since = None
            return
        self._shedding = self.used >= (CALM if self._shedding else SHED) * self._meter.limit


def _give_back() -> None:
    """Let the allocator give free memory back to the kernel: else a crowd that has gone keeps its mark (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

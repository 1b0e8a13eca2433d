"""What good proxies feel of a flood: a control plane, a fleet that is well served, and attackers in turns with none.

A phase is a number of endpoint changes, one after the other, each until every good proxy has it. The machine may do
other things meanwhile, so a phase with a flood is set against those beside it, and CPU is counted as well as time:
``work`` is what the event loop's own thread used from a change to its arrival at the last proxy, which only istiod
can make longer.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bench import identities, processes, watched, world
from bench.folder import Folder
from bench.processes import BenchError, Fleet, Istiod
from bench.world import Size

PAUSE: Final = 0.05
"""Seconds between a change's arrival and the next change."""
PASSIVE: Final = ("stuck", "slow", "half", "idle")
"""Attackers that come once: what they do is not to read, or to say nothing. Their coming is the row ``storm``'s."""
READY: Final = 20.0
"""Seconds that attackers may take until all of them are there; where they are turned away, they never are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What one phase gave. Milliseconds; ``busy``: istiod's share of a core; ``rss`` in MB."""

    p50: float
    p99: float
    work: float
    late: float
    stretch: float
    busy: float
    rss: float


def middle(phases: Sequence[Phase]) -> Phase:
    """Each figure's median over phases."""
    return Phase(
        **{name: statistics.median(getattr(phase, name) for phase in phases) for name in Phase.__dataclass_fields__}
    )


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which so large a part of them is; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(part * len(ordered)))] if ordered else 0.0


@dataclass(slots=True, kw_only=True)
class Rig:
    """A control plane with its good proxies."""

    home: pathlib.Path
    size: Size
    istiod: Istiod
    fleet: Fleet
    folder: Folder
    changes: int
    change: int = 0
    took: list[float] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process of istiod."""
        return self.istiod.process.pid

    def phase(self) -> Phase:
        """So many changes of endpoints."""
        used, since = processes.cpu(self.pid), time.monotonic()
        events, spans = [], []
        for _ in range(self.changes):
            at, began = time.time_ns(), time.monotonic()
            last = self.converge(at)
            events.append((self.change, at))
            spans.append((began, began + last))
            time.sleep(PAUSE)
        over = time.monotonic()
        found = self.fleet.markers("eds", 0, events)
        turns = [turn for turn in watched.read(self.home / "turns") if since <= turn.at <= over]
        return Phase(
            p50=found["p50_ms"],
            p99=found["p99_ms"],
            work=statistics.median(_spent(turns, *span) for span in spans) * 1e3,
            late=percentile([turn.late for turn in turns], 0.99) * 1e3,
            stretch=percentile([turn.spent for turn in turns], 0.99) * 1e3,
            busy=(processes.cpu(self.pid) - used) / (over - since),
            rss=processes.rss(self.pid),
        )

    def converge(self, at: int) -> float:
        """Change an endpoint, wait until all have it, and tell how many seconds after ``at`` (Unix ns) the last had.

        Raises:
            BenchError: somebody did not get it.
        """
        self.change += 1
        change = self.change
        found: dict[str, Any] = {}
        self.folder.put(world.CHANGES["endpoint"](self.size, change, change))

        def arrived() -> bool:
            self.istiod.check()
            found.update(self.fleet.marker("eds", change, at) or {"n": 0})
            return bool(found["n"] >= self.size.proxies)

        processes.until(f"change {change} at {self.size.proxies} proxies", arrived, patience=60, step=0.02)
        return float(found["max_ms"]) / 1e3

    def steady(self) -> None:
        """See that no good proxy has lost its stream.

        Raises:
            BenchError: one has.
        """
        if reconnects := self.fleet.stats()["reconnects"]:
            raise BenchError(f"{reconnects} streams of good proxies were lost")

    def forget_peak(self) -> None:
        """Let ``processes.peak_rss`` count from now on."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @contextlib.contextmanager
    def flooded(self, kind: str, count: int) -> Iterator[dict[str, Any]]:
        """So many attackers of a kind; what they have done is there after the block."""
        status = self.home / f"{kind}.json"
        status.unlink(missing_ok=True)
        port, pages = (address.rpartition(":")[2] for address in (self.istiod.address, self.istiod.pages))
        crowd = f"{self.size.services},{self.size.endpoints},{count}"
        command = [sys.executable, "-m", "bench.attackers", kind, str(self.home), port, pages, crowd]
        command += [str(self.size.proxies), str(status)]
        process = processes.start(command, self.home / f"{kind}.log")
        told: dict[str, Any] = {}
        since = time.monotonic()
        try:
            _come(process, status, count, self.home / f"{kind}.log")
            if kind in PASSIVE:
                processes.settle(self.pid, 0.05)
            told["began"] = time.monotonic()
            yield told
            _running(process, self.home / f"{kind}.log")
            told.update(read(status), seconds=time.monotonic() - since, cpu=processes.cpu(process.pid))
        finally:
            processes.stop(process)


def read(status: pathlib.Path) -> Mapping[str, Any]:
    """What attackers have done by now."""
    try:
        return dict(json.loads(status.read_text()))
    except FileNotFoundError:
        return {}


def _come(process: subprocess.Popen[bytes], status: pathlib.Path, count: int, log: pathlib.Path) -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end and read(status).get("connected", 0) < count:
        _running(process, log)
        time.sleep(0.1)


def _running(process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    if process.poll() is not None:
        raise BenchError(f"the attackers ended:\n{log.read_text()[-2000:]}")


def _spent(turns: Sequence[watched.Turn], began: float, over: float) -> float:
    """CPU seconds of the loop's thread between two moments; the first turn and the last count in part."""
    spent, last = 0.0, began
    for turn in turns:
        if turn.at <= began:
            continue
        start = max(last, began)
        whole = max(turn.at - start, watched.PERIOD)
        spent += turn.spent * min(1.0, max(0.0, (min(turn.at, over) - start) / whole))
        if turn.at >= over:
            break
        last = turn.at
    return spent


def nodes(size: Size) -> list[dict[str, Any]]:
    """Every pod of a world, the good proxies first."""
    return list(world.nodes(replace(size, proxies=size.services * size.endpoints)))


@contextlib.contextmanager
def started(size: Size, changes: int, program: pathlib.Path, *, unread: bool = False) -> Iterator[Rig]:
    """A control plane with a fleet that has its first configuration. ``unread``: nobody reads what it logs."""
    with contextlib.ExitStack() as stack:
        home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floods-")))
        pods = nodes(size)
        identities.write(home, {(pod["ns"], pod["sa"]) for pod in pods})
        (home / "nodes.jsonl").write_text("\n".join(json.dumps(pod) for pod in pods[: size.proxies]))
        folder = Folder(home / "config")
        folder.fill(size)
        if unread:
            os.mkfifo(home / "istiod.log")
            stack.callback(os.close, os.open(home / "istiod.log", os.O_RDONLY | os.O_NONBLOCK))
        wrap = ("-m", "bench.watched", str(home / "turns"))
        istiod = Istiod(home, folder.flags(home), wrap)
        stack.callback(processes.stop, istiod.process)
        istiod.wait()
        fleet = Fleet(home, program, istiod.address, size.proxies, "delta")
        stack.callback(processes.stop, fleet.process)
        processes.until("every good proxy is served", lambda: fleet.complete() >= size.proxies)
        made = Rig(home=home, size=size, istiod=istiod, fleet=fleet, folder=folder, changes=changes)
        made.phase()  # code read once, connections warm
        yield made

"""One whole run: istiod as its own process, a world, a fleet over mTLS, three kinds of change, and churn."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench import apiserver, identities, processes, world
from bench.folder import Folder
from bench.processes import BenchError, Fleet, Istiod
from bench.sources import Source
from bench.world import Size

Figures = dict[str, float]

_CHURN: Final = (10, 50)
"""Endpoint changes per second of churn."""
_MODULUS: Final = 50
"""Churn goes round so many Services; a later change of the same one counts for an earlier."""

_SEEN: Final = {"endpoint": "eds", "virtualservice": "rds", "service": "cds"}
"""Where the fleet sees a change of a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure. ``changes``: repetitions of each kind; ``churn``: seconds of it, 0 for none.

    ``cluster``: the world is in a real API server, not in files.
    """

    size: Size
    mode: str = "delta"
    changes: int = 10
    churn: int = 10
    cluster: bool = False
    program: pathlib.Path = pathlib.Path("build/fleet")
    wrap: Sequence[str] = ()


def run(plan: Plan, say: Callable[[str], None]) -> Figures:
    """The figures of one run, by name; see bench.report for what they mean.

    Raises:
        BenchError: a process ended, or a change did not reach every proxy.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as place, contextlib.ExitStack() as stack:
        home = pathlib.Path(place)
        _identify(home, plan.size)
        source = stack.enter_context(apiserver.started()) if plan.cluster else Folder(home / "config")
        source.fill(plan.size)
        istiod = Istiod(home, source.flags(home), plan.wrap)
        stack.callback(processes.stop, istiod.process)
        istiod.wait()
        say(f"S({plan.size}) {plan.mode}: istiod has read {'the API server' if plan.cluster else 'its files'}")
        pid = istiod.process.pid
        figures = {"ready_cpu_s": processes.cpu(pid)}
        idle = _idle(pid)
        figures |= {"idle_cpu_share": idle, "rss_before_mb": processes.rss(pid)}
        before = processes.cpu(pid)
        fleet = Fleet(home, plan.program, istiod.address, plan.size.proxies, plan.mode)
        stack.callback(processes.stop, fleet.process)
        figures |= _first(istiod, fleet, plan.size.proxies, idle, before)
        say(f"first configuration: {figures['first_ms']:.2f} ms of CPU per proxy")
        bench = _Bench(plan=plan, istiod=istiod, pid=pid, fleet=fleet, source=source, idle=idle)
        for name in _SEEN:
            figures |= bench.changes(name)
            say(f"{name}: {figures[f'{name}_us']:.0f} us of CPU per change and proxy")
        for rate in _CHURN if plan.churn else ():
            figures |= bench.churn(rate)
        figures["rss_settled_mb"] = processes.rss(pid)
        figures["rss_proxy_kb"] = (figures["rss_settled_mb"] - figures["rss_before_mb"]) * 1024 / plan.size.proxies
        figures["reconnects"] = float(fleet.stats()["reconnects"])
        return figures


def empty() -> Figures:
    """What istiod takes until it is ready where there is nothing: seconds from its start, and CPU.

    Of two starts the second counts: the first writes the byte code.
    """
    return [_start() for _ in range(2)][-1]


def _start() -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as place, contextlib.ExitStack() as stack:
        home = pathlib.Path(place)
        _identify(home, Size(services=1, endpoints=1, proxies=1))
        flags = Folder(home / "config").flags(home)
        since = time.monotonic()
        istiod = Istiod(home, flags)
        stack.callback(processes.stop, istiod.process)
        istiod.wait(step=0.01)
        return {"empty_ready_s": time.monotonic() - since, "empty_cpu_s": processes.cpu(istiod.process.pid)}


def _identify(home: pathlib.Path, size: Size) -> None:
    nodes = list(world.nodes(size))
    identities.write(home, {(node["ns"], node["sa"]) for node in nodes})
    (home / "nodes.jsonl").write_text("\n".join(json.dumps(node) for node in nodes))


def _idle(pid: int) -> float:
    """CPU share of a core while nothing happens: the lower of two looks at all files (one each 5 s)."""
    processes.settle(pid, 0.0)
    return min(_share(pid, 5.5) for _ in range(2))


def _share(pid: int, seconds: float) -> float:
    before, since = processes.cpu(pid), time.monotonic()
    time.sleep(seconds)
    return (processes.cpu(pid) - before) / (time.monotonic() - since)


def _first(istiod: Istiod, fleet: Fleet, proxies: int, idle: float, before: float) -> Figures:
    pid, since = istiod.process.pid, time.monotonic()

    def complete() -> bool:
        istiod.check()
        return fleet.complete() >= proxies

    processes.until("every proxy has its first configuration", complete)
    wall = time.monotonic() - since
    peak = processes.rss(pid)
    processes.settle(pid, idle)
    used = processes.cpu(pid) - before - idle * (time.monotonic() - since)
    stats = fleet.stats()
    return {
        "first_ms": used / proxies * 1e3,
        "first_wall_s": wall,
        "first_p99_ms": stats["first_config_since_connect"]["p99_ms"],
        "first_mb": sum(stats["bytes"].values()) / proxies / 1e6,
        "rss_connected_mb": peak,
    }


@dataclass(slots=True, kw_only=True)
class _Bench:
    """A running control plane with a settled fleet."""

    plan: Plan
    istiod: Istiod
    pid: int
    fleet: Fleet
    source: Source
    idle: float
    change: int = 0
    reached: list[Any] = field(default_factory=list)

    def changes(self, name: str) -> Figures:
        """Changes of one kind, one after the other."""
        proxies, count = self.plan.size.proxies, self.plan.changes
        self.reached = []
        sent = self._bytes()
        with self._cost() as cost:
            for turn in range(count):
                self.change += 1
                since = time.time_ns()
                self.source.put(world.CHANGES[name](self.plan.size, turn, self.change))
                told = world.audience(self.plan.size, turn, new=name == "service")
                self._wait(_SEEN[name], self.change, since, told)
            processes.settle(self.pid, self.idle)
        return {
            f"{name}_us": cost[0] / count / proxies * 1e6,
            f"{name}_p50_ms": statistics.median(found["p50_ms"] for found in self.reached),
            f"{name}_p99_ms": statistics.median(found["p99_ms"] for found in self.reached),
            f"{name}_bytes": (self._bytes() - sent) / count / proxies,
        }

    def churn(self, rate: int) -> Figures:
        """Endpoint changes at a steady rate, whether the ones before have arrived or not."""
        size, count = self.plan.size, self.plan.churn * rate
        self.change = math.ceil(self.change / _MODULUS + 1) * _MODULUS
        events: list[tuple[int, int]] = []
        start = time.time()
        with self._cost() as cost:
            for turn in range(count):
                time.sleep(max(0.0, start + turn / rate - time.time()))
                self.change += 1
                at = self.change % _MODULUS * max(1, size.services // _MODULUS) % size.services
                events.append((self.change, time.time_ns()))
                self.source.put(world.endpoint(size, at, self.change))
            self._wait("eds", *events[-1], min(world.audience(size, turn, new=False) for turn in range(_MODULUS)))
            processes.settle(self.pid, self.idle)
        found = self.fleet.markers("eds", _MODULUS, events)
        name = "churn" if rate == _CHURN[0] else f"churn{rate}"
        return {
            f"{name}_us": cost[0] / count / size.proxies * 1e6,
            f"{name}_p50_ms": found["p50_ms"],
            f"{name}_p99_ms": found["p99_ms"],
        }

    @contextlib.contextmanager
    def _cost(self) -> Iterator[list[float]]:
        """CPU seconds of the server for what is done inside, without what it uses idly."""
        used: list[float] = []
        before, since = processes.cpu(self.pid), time.monotonic()
        yield used
        used.append(processes.cpu(self.pid) - before - self.idle * (time.monotonic() - since))

    def _bytes(self) -> float:
        return float(sum(self.fleet.stats()["bytes"].values()))

    def _wait(self, kind: str, change: int, since: int, told: int) -> None:
        """Wait until so many proxies have seen a change."""
        found: Any = None

        def arrived() -> bool:
            nonlocal found
            self.istiod.check()
            found = self.fleet.marker(kind, change, since)
            return bool(found and found["n"] >= told)

        processes.until(f"change {change} in {kind} at {told} proxies", arrived, patience=60)
        self.reached.append(found)


__all__ = ["BenchError", "Figures", "Plan", "run"]

"""``python -m bench.floods``: what good proxies feel while others flood, storm or do not read, and what that costs.

Each row takes turns with nothing: a phase without, a phase with, and so on, in one run against one control plane, and
medians are compared (bench.overload). A row ``nothing`` shows what two equal phases differ by on this machine now;
with ``--aside`` each flood is also let loose on another istiod, which shows what the attackers' own CPU does. Rows are
those of docs/faults.md (FT13 to FT17, FT21, FT60) and of the hostile inputs SEC22 to SEC28.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench import calibration, objects, overload, processes, watched, world
from bench.objects import Document
from bench.overload import Phase, Rig, middle, percentile
from bench.processes import BenchError, Fleet, Istiod
from bench.world import Size

SLOWER: Final = 1.2
"""How much slower others may be (rows FT14, SEC23)."""
LATE: Final = 50.0
"""Milliseconds that the event loop may be late, 99th percentile (rows FT21, FT60, SEC33)."""
STUCK_MB: Final = 2.0
"""Memory for a client that does not read (row FT14)."""
STORM_S: Final = 20.0
"""Seconds until all that come at once are served (row FT13)."""
PUSH_S: Final = 10.0
"""Seconds until an object as large as can be is everywhere (row FT21)."""
ENDPOINTS: Final = 50_000
_TITLES: Final = ("", "p50 ms", "p99 ms", "work ms", "late ms", "stretch", "busy", "p99 x", "work x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A flood: its kind of attackers (see bench.attackers), how many of them, and where it stands in the lists."""

    kind: str
    count: int
    rows: str


ROWS: Final = (
    Row(kind="nothing", count=0, rows="-"),
    Row(kind="stuck", count=100, rows="FT14 SEC28"),
    Row(kind="slow", count=100, rows="FT15"),
    Row(kind="half", count=1_000, rows="SEC24"),
    Row(kind="idle", count=300, rows="SEC24"),
    Row(kind="shakes", count=16, rows="SEC24"),
    Row(kind="refused", count=8, rows="SEC24"),
    Row(kind="resets", count=8, rows="SEC26"),
    Row(kind="pings", count=8, rows="SEC26"),
    Row(kind="settings", count=8, rows="SEC26"),
    Row(kind="empties", count=8, rows="SEC26"),
    Row(kind="windows", count=8, rows="SEC26"),
    Row(kind="requests", count=4, rows="FT16 SEC22"),
    Row(kind="refusals", count=20, rows="FT17 SEC23"),
)
OTHERS: Final = ("storm", "log", "routes", "endpoints")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``rounds``: phases with the flood; ``changes`` in each; ``share``: of the attackers and objects; a short form."""

    size: Size
    rounds: int = 5
    changes: int = 20
    share: float = 1.0
    aside: bool = False
    program: pathlib.Path = pathlib.Path("build/fleet")

    def part(self, count: int) -> int:
        """So many of them."""
        return max(1, round(count * self.share)) if count else 0


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was measured, as lines, and what missed its bound."""

    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def hold(self, what: str, value: float, most: float) -> None:
        """A figure and its bound."""
        if value > most:
            self.missed.append(f"{what}: {value:.3g}, at most {most:.3g}")

    def say(self, line: str) -> None:
        """A line now, and once more at the end."""
        self.lines.append(line)
        print(line, flush=True)


def line(name: str, phase: Phase, base: Phase | None = None) -> str:
    """A phase as a row of the table, with what it is of its ``base``."""
    cells = [f"{value:9.1f}" for value in (phase.p50, phase.p99, phase.work, phase.late, phase.stretch)]
    cells.append(f"{phase.busy:9.0%}")
    if base is not None:
        cells += [f"{ratio(phase.p99, base.p99):9.2f}", f"{ratio(phase.work, base.work):9.2f}"]
    return f"{name:22}" + "".join(cells)


def head() -> str:
    """The table's first line."""
    return f"{_TITLES[0]:22}" + "".join(f"{title:>9}" for title in _TITLES[1:])


def ratio(value: float, base: float) -> float:
    """How many times the base; of nothing, once."""
    return value / base if base else 1.0


def measure(rig: Rig, other: Rig | None, row: Row, plan: Plan, found: Findings) -> None:
    """Phases without the flood, with it beside another istiod if there is one, and with it."""
    count = plan.part(row.count)
    without, beside, within, told = [rig.phase()], [], [], []
    for _ in range(plan.rounds):
        if other is not None and count:
            beside.append(_flooded(rig, other, row.kind, count)[0])
            without.append(rig.phase())
        phase, did = _flooded(rig, rig, row.kind, count)
        within.append(phase)
        told.append(did)
        processes.settle(rig.pid, 0.05)
        without.append(rig.phase())
    rig.steady()
    base, flood = middle(without), middle(within)
    found.say(line(f"{row.kind} x{count}: without", base))
    if beside:
        found.say(line("  beside another", middle(beside), base))
    found.say(line("  with it", flood, base))
    fair = middle(beside) if beside else base
    if row.kind != "nothing":
        found.hold(f"{row.kind} ({row.rows}): p99 of others, times", ratio(flood.p99, fair.p99), SLOWER)
        _told(row, count, told, flood.rss - base.rss, found)


def _flooded(rig: Rig, target: Rig, kind: str, count: int) -> tuple[Phase, Mapping[str, Any]]:
    if not count:
        return rig.phase(), {}
    with target.flooded(kind, count) as told:
        phase = rig.phase()
    return phase, told


def _told(row: Row, count: int, told: Sequence[Mapping[str, Any]], more: float, found: Findings) -> None:
    seconds = sum(each["seconds"] for each in told)
    names = ("connections", "frames", "responses", "cut", "ended", "broken", "turned away")
    totals = {name: sum(each.get(name, 0) for each in told) for name in names}
    rates = [f"{total / seconds:.1f} {name}/s" for name, total in totals.items() if total]
    cpu = sum(each["cpu"] for each in told) / seconds
    found.say(f"  {row.rows}: {', '.join(rates) or 'nothing ended'}; attackers' CPU {cpu:.0%}; RSS {more:+.1f} MB")
    if row.kind == "stuck":
        found.hold("stuck (FT14): MB for each", more / count, STUCK_MB)
    if row.kind == "slow" and any(each.get("cut", 0) for each in told):
        found.missed.append("slow (FT15): clients that read were cut")


def cut(rig: Rig, plan: Plan, found: Findings) -> None:
    """How long clients that read nothing stay (FT14)."""
    count = plan.part(100)
    with rig.flooded("stuck", count):
        processes.until(
            "all that are stuck are cut",
            lambda: overload.read(rig.home / "stuck.json").get("cut", 0) >= count,
            patience=90,
            step=0.25,
        )
        longest = overload.read(rig.home / "stuck.json")["longest_ms"] / 1e3
    found.say(f"  FT14: the last of {count} that read nothing was cut {longest:.1f} s after it came")
    found.hold("stuck (FT14): seconds until cut", longest, 25.0)


def storm(rig: Rig, plan: Plan, found: Findings) -> None:
    """Many proxies that come at once (FT13): how long until all are served, and what those feel that are there."""
    home = rig.home / "storm"
    home.mkdir()
    for name in ("clients", "root.pem"):
        (home / name).symlink_to(rig.home / name)
    pods = overload.nodes(rig.size)[rig.size.proxies :][: plan.part(1_000)]
    (home / "nodes.jsonl").write_text("\n".join(json.dumps(pod) for pod in pods))
    within, without = [], [rig.phase()]
    for _ in range(max(1, plan.rounds // 2)):
        within += _come(rig, home, plan, len(pods), found)
        processes.settle(rig.pid, 0.05)
        without.append(rig.phase())
    rig.steady()
    base, flood = middle(without), middle(within)
    found.say(line("  without", base))
    found.say(line("  while they come", flood, base))
    found.hold("storm (FT13): p99 of others, times", ratio(flood.p99, base.p99), SLOWER)


def _come(rig: Rig, home: pathlib.Path, plan: Plan, count: int, found: Findings) -> list[Phase]:
    """They come, and go when all are served; phases meanwhile."""
    within, before = [], processes.rss(rig.pid)
    rig.forget_peak()
    used, since = processes.cpu(rig.pid), time.monotonic()
    fleet = Fleet(home, plan.program, rig.istiod.address, count, "delta")
    try:
        while fleet.complete() < count:
            within.append(rig.phase())
            if time.monotonic() > since + 300:
                raise BenchError(f"{fleet.complete()} of {count} are served after 300 s: {fleet.stats()}")
        first = fleet.stats()["first_config_since_fleet_start"]
        cpu, peak, after = processes.cpu(rig.pid) - used, processes.peak_rss(rig.pid), processes.rss(rig.pid)
    finally:
        processes.stop(fleet.process)
    served = first["max_ms"] / 1e3
    found.say(
        f"storm x{count}: half served after {first['p50_ms'] / 1e3:.1f} s, all after {served:.1f} s; at most"
        f" {cpu / count * 1e3:.1f} ms of CPU each; RSS {before:.0f} MB, peak {peak:.0f}, then {after:.0f}"
    )
    found.hold("storm (FT13): seconds until all are served", served, STORM_S)
    found.hold("storm (FT13): peak of memory, times what it is with all", peak / after, 2.0)
    return within


def log(plan: Plan, found: Findings) -> None:
    """A log that nobody reads, and a new value for labels with each call (FT60)."""
    with overload.started(plan.size, plan.changes, plan.program, unread=True) as rig:
        measure(rig, None, Row(kind="labels", count=20, rows="FT60"), plan, found)
        turns = [turn.late * 1e3 for turn in watched.read(rig.home / "turns")]
        series = _metrics(rig.istiod)
        dropped = series.get("pilot_log_lines_dropped_total", 0)
        found.say(
            f"  FT60: {dropped:.0f} lines dropped, {len(series)} series; late p99 of all {percentile(turns, 0.99):.1f}"
        )


def _metrics(istiod: Istiod) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{istiod.pages}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {each.rpartition(" ")[0]: float(each.rpartition(" ")[2]) for each in lines if each[:1] not in {"#", ""}}


def large(rig: Rig, name: str, document: Document, found: Findings) -> None:
    """An object as large as can be comes and goes (FT21); the change's number is in its bytes."""
    kind = {"VirtualService": "rds"}.get(document["kind"], "eds")
    since, at = time.monotonic(), time.time_ns()
    rig.folder.put(document)

    def arrived() -> bool:
        rig.istiod.check()
        told = rig.fleet.marker(kind, rig.change, at)
        return bool(told and told["n"] >= rig.size.proxies)

    processes.until(f"{name} at every proxy", arrived, patience=300)
    told = rig.fleet.marker(kind, rig.change, at)
    took = told["max_ms"] / 1e3
    time.sleep(1)
    gone = time.monotonic()
    rig.folder.delete(document)
    processes.settle(rig.pid, 0.05, calm=2.0)
    over = time.monotonic()
    turns = [turn for turn in watched.read(rig.home / "turns") if since <= turn.at <= over]
    late = percentile([turn.late for turn in turns], 0.99) * 1e3
    stretch = percentile([turn.spent for turn in turns], 0.99) * 1e3
    most = max(turn.spent for turn in turns) * 1e3
    found.say(
        f"{name}: the last of {rig.size.proxies} had it after {took:.1f} s, gone within {over - gone:.1f} s;"
        f" loop late p99 {late:.1f} ms, its own work between two turns p99 {stretch:.1f} ms, most {most:.0f} ms"
    )
    found.hold(f"{name} (FT21): seconds until everywhere", took, PUSH_S)
    found.hold(f"{name} (FT21): event loop late, p99 ms", late, LATE)


def routes(rig: Rig, count: int) -> Document:
    """A VirtualService of so many routes for a Service that all see; its first route has the change's number."""
    rig.change += 1
    made = objects.virtual_service(1, mark=rig.change)
    to = {"destination": {"host": objects.host(1)}}
    made["metadata"]["name"] = "large"
    made["spec"]["http"][:0] = [
        {"name": f"mk-{rig.change}", "match": [{"uri": {"exact": f"/{at:06}"}}], "route": [to]} for at in range(count)
    ]
    return made


def endpoints(rig: Rig, count: int) -> Document:
    """A ServiceEntry of so many endpoints, one of which says the change's number."""
    rig.change += 1
    addresses = [f"10.{200 + at // 62_500}.{at // 250 % 250}.{1 + at % 250}" for at in range(count - 1)]
    addresses.append(objects.marked(rig.change))
    spec = {
        "hosts": ["large.example"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": address} for address in addresses],
    }
    return objects.made("networking.istio.io/v1", "ServiceEntry", "large", objects.ns(0), spec=spec)


_LARGE: Final[Mapping[str, tuple[Callable[[Rig, int], Document], int]]] = {
    "routes": (routes, 10_000),
    "endpoints": (endpoints, ENDPOINTS),
}


def run(plan: Plan, wanted: Callable[[str], bool], found: Findings) -> None:
    """Every row that is wanted."""
    rows = [row for row in ROWS if wanted(row.kind)]
    with contextlib.ExitStack() as stack:
        if rows or wanted("storm"):
            rig = stack.enter_context(overload.started(plan.size, plan.changes, plan.program))
            few = Size(services=plan.size.services, endpoints=plan.size.endpoints, proxies=1)
            other = stack.enter_context(overload.started(few, 1, plan.program)) if plan.aside else None
            found.say(head())
            for row in rows:
                measure(rig, other, row, plan, found)
                if row.kind == "stuck":
                    cut(rig, plan, found)
            if wanted("storm"):
                storm(rig, plan, found)
    if wanted("log"):
        log(plan, found)
    for name in filter(wanted, _LARGE):
        make, count = _LARGE[name]
        with overload.started(plan.size, plan.changes, plan.program) as rig:
            large(rig, f"{plan.part(count)} {name}", make(rig, plan.part(count)), found)


def main() -> int:
    """Run; 1 where a part failed or, with ``--strict``, a figure missed its bound."""
    top = argparse.ArgumentParser(prog="bench.floods", description=__doc__)
    top.add_argument("kinds", nargs="*", help="rows; else all: " + ", ".join((*(row.kind for row in ROWS), *OTHERS)))
    top.add_argument("--size", default=Size(services=200, endpoints=8, proxies=100), type=world.parse_size)
    top.add_argument("--rounds", type=int, default=5, help="phases with each flood")
    top.add_argument("--changes", type=int, default=20, help="in a phase")
    top.add_argument("--share", type=float, default=1.0, help="of the attackers, and of the large objects")
    top.add_argument("--short", action="store_true", help="ten proxies, few of everything: whether it runs")
    top.add_argument("--aside", action="store_true", help="each flood at another istiod as well")
    top.add_argument("--strict", action="store_true", help="fail where a figure missed its bound")
    asked = top.parse_args()
    plan = Plan(size=asked.size, rounds=asked.rounds, changes=asked.changes, share=asked.share, aside=asked.aside)
    if asked.short:
        plan = Plan(size=Size(services=20, endpoints=4, proxies=10), rounds=1, changes=3, share=0.05)
    found = Findings()
    try:
        run(plan, lambda name: not asked.kinds or name in asked.kinds, found)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    print(f"S({plan.size}), load {load}, calibration factor {calibration.calibrate().factor:.2f}")
    print(*(f"MISSED {each}" for each in found.missed), sep="\n")
    return int(asked.strict and bool(found.missed))


if __name__ == "__main__":
    sys.exit(main())

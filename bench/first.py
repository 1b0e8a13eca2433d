"""``python -m bench.first N,K,M``: the first configuration alone, storm after storm on one istiod.

For comparing two trees in turns: a run takes half a minute, and a line tells what one storm took. The first storm
also makes what each workload has for itself; the later ones find it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Final

from bench import identities, processes, world
from bench.folder import Folder
from bench.processes import BenchError, Fleet, Istiod

_TICK: Final = os.sysconf("SC_CLK_TCK")
_FLEET: Final = pathlib.Path("build/fleet")


def main() -> int:
    """Run; 1 where a part failed."""
    top = argparse.ArgumentParser(prog="bench.first", description=__doc__)
    top.add_argument("size", nargs="?", default="1000,10,200", help="services,endpoints,proxies")
    top.add_argument("--storms", type=int, default=2)
    top.add_argument("--fleet", type=pathlib.Path, default=_FLEET, help="the program, where the tree has none built")
    asked = top.parse_args()
    size = world.parse_size(asked.size, 0)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as place, contextlib.ExitStack() as stack:
            home = pathlib.Path(place)
            nodes = list(world.nodes(size))
            identities.write(home, {(node["ns"], node["sa"]) for node in nodes})
            (home / "nodes.jsonl").write_text("\n".join(json.dumps(node) for node in nodes))
            source = Folder(home / "config")
            source.fill(size)
            istiod = Istiod(home, source.flags(home))
            stack.callback(processes.stop, istiod.process)
            istiod.wait()
            for _ in range(asked.storms):
                processes.settle(istiod.process.pid, 0.0)
                print(_storm(istiod, Fleet(home, asked.fleet, istiod.address, size.proxies, "delta"), size.proxies))
    except BenchError as error:
        print(f"bench.first: {error}", file=sys.stderr)
        return 1
    return 0


def _storm(istiod: Istiod, fleet: Fleet, proxies: int) -> str:
    pid, since = istiod.process.pid, time.monotonic()
    before = _times(pid)
    try:
        processes.until("every proxy has its first configuration", lambda: fleet.complete() >= proxies)
        wall = time.monotonic() - since
        processes.settle(pid, 0.0)
        user, system = (now - was for now, was in zip(_times(pid), before, strict=True))
        sent = sum(fleet.stats()["bytes"].values()) / proxies / 1e6
    finally:
        processes.stop(fleet.process)
    istiod.check()
    each = 1e3 / proxies
    told = f"{(user + system) * each:.2f} ms of CPU per proxy (user {user * each:.2f}, system {system * each:.2f})"
    return f"{told}, {sent:.2f} MB, all in {wall:.1f} s, {processes.rss(pid):.0f} MB, load {os.getloadavg()[0]:.1f}"


def _times(pid: int) -> tuple[float, float]:
    """User and system seconds of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) / _TICK, int(fields[12]) / _TICK


if __name__ == "__main__":
    sys.exit(main())

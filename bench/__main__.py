"""``python -m bench N,K,M``: measure S(N, K, M) in one process and over the wire, print the table, note the history.

``mixed:N,K,M``, or ``mixed``, is a mesh in which proxies differ (bench.mixed).
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from bench import calibration, history, measure, micro, processes, report, world
from e2e.harness.process import ClusterError
from e2e.harness.tools import MissingProgramError

HISTORY = pathlib.Path(__file__).with_name("history.jsonl")


def main() -> int:
    """Run; 1 where a part failed. A figure that got worse is told, but is no failure."""
    top = argparse.ArgumentParser(prog="bench", description=__doc__)
    top.add_argument("size", nargs="?", default="100,5,100", help="services,endpoints,proxies; mixed:...; mixed")
    top.add_argument("--mode", default="delta", choices=("delta", "sotw"))
    top.add_argument("--changes", type=int, default=10, help="of each kind")
    top.add_argument("--churn", type=int, default=10, help="seconds")
    top.add_argument("--sidecars", type=int, default=0, help="workloads with a Sidecar of their own")
    top.add_argument("--cluster", action="store_true", help="the world is in a real API server, not in files")
    top.add_argument("--only", choices=("micro", "wire"), help="in one process only, or over the wire only")
    top.add_argument("--note", action="store_true", help="add the figures to bench/history.jsonl")
    asked = top.parse_args()
    size = world.parse_size(asked.size, asked.sidecars)
    machine = calibration.calibrate()
    figures: dict[str, float] = {}
    try:
        if asked.only != "wire":
            figures |= micro.run(size, asked.changes)
        if asked.only != "micro":
            plan = measure.Plan(
                size=size, mode=asked.mode, changes=asked.changes, churn=asked.churn, cluster=asked.cluster
            )
            figures |= measure.empty()
            figures |= measure.run(plan, lambda line: print(line, flush=True))
    except (processes.BenchError, ClusterError, MissingProgramError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    after = calibration.calibrate()
    factor = (machine.factor + after.factor) / 2
    print(f"calibration: loop {machine.loop:.4f} and {after.loop:.4f} s, ", end="")
    print(f"sha256 {machine.hashing:.4f} and {after.hashing:.4f} s: factor {factor:.2f}")
    print(*report.table(str(size), figures, factor), sep="\n")
    mode = f"{asked.mode} cluster" if asked.cluster else asked.mode
    _compare(history.entry(str(size), mode, figures, factor), note=asked.note)
    return 0


def _compare(made: history.Entry, *, note: bool) -> None:
    before = history.last(HISTORY, made)
    if before is None:
        print("no earlier run of this size to compare with")
    else:
        print(*(list(history.worse(before, made)) or [f"nothing is worse than at {before['commit']}"]), sep="\n")
    if note:
        history.append(HISTORY, made)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m bench.dataplane``: what our configuration costs two sidecars, beside a minimal one by hand."""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bench import calibration
from bench.dataplane import memory, rig, variants
from bench.dataplane.rig import MINIMAL, OURS, Load, Taken
from bench.dataplane.variants import Variant
from bench.processes import BenchError
from node.errors import MeshError

LOADS = (Load(rate=500, size=1024), Load(rate=100, size=1024), Load(rate=1000, size=100), Load(rate=200, size=65536))
LIMIT = 1.35
"""How much more CPU than the minimal configuration ours may take, with telemetry on."""

Case = tuple[Load, Variant]
Pair = tuple[Taken, Taken]
"""Minimal, ours; one right after the other."""


def cases(loads: Sequence[Load], parts: Sequence[Variant]) -> Iterator[Case]:
    """What is measured in each round: every load with all on and as installed, the first also without each part."""
    for load in loads:
        yield load, variants.ALL
        yield load, variants.DEFAULT
    for part in parts:
        yield loads[0], part


async def measure(mesh: rig.Rig, wanted: Sequence[Case], asked: argparse.Namespace) -> Mapping[Case, list[Pair]]:
    """Each case in turn, then all again."""
    found: dict[Case, list[Pair]] = defaultdict(list)
    for turn in range(asked.rounds):
        for load, variant in sorted(wanted, key=lambda case: case[1].name):
            await mesh.use(variant)
            order = (MINIMAL, OURS) if turn % 2 == 0 else (OURS, MINIMAL)
            takes = [mesh.take(name, load, asked.seconds) for name in order]
            taken = await asyncio.gather(*takes) if asked.together else [await each for each in takes]
            made = dict(zip(order, taken, strict=True))
            found[load, variant].append((made[MINIMAL], made[OURS]))
            print(f"  {turn + 1}: {load}, {variant.name}: {made[OURS].cpu / made[MINIMAL].cpu:.2f}", flush=True)
    return found


def lines(found: Mapping[Case, list[Pair]]) -> Iterator[str]:
    """Medians, for people. The ratio is the median of the ratios of pairs."""
    yield f"{'':46}{'p50 ms':>14}{'p99 ms':>16}{'CPU µs/request':>18}{'client/server':>14}{'ratio':>7}"
    for (load, variant), pairs in found.items():
        parts = [f"{f'{load}, {variant.name}':46}"]
        for width, digits, name in ((14, 2, "p50"), (16, 1, "p99"), (18, 0, "cpu")):
            ours, plain = (statistics.median(getattr(pair[side], name) for pair in pairs) for side in (1, 0))
            parts.append(f"{f'{ours:.{digits}f} | {plain:.{digits}f}':>{width}}")
        client, server = (statistics.median(getattr(ours, name) for _, ours in pairs) for name in ("client", "server"))
        parts += [f"{f'{client:.0f} + {server:.0f}':>14}", f"{ratio(pairs):7.2f}"]
        late = sum(taken.late for pair in pairs for taken in pair)
        yield "".join(parts) + (f"  ({late} sent late)" if late else "")


def ratio(pairs: Sequence[Pair]) -> float:
    """How many times the CPU of the minimal configuration ours takes."""
    return statistics.median(ours.cpu / plain.cpu for plain, ours in pairs)


async def run(asked: argparse.Namespace) -> None:
    """Measure and print."""
    loads = LOADS[: asked.loads]
    parts = () if asked.brief else variants.PARTS
    print(f"load average {os.getloadavg()[0]:.1f}, calibration factor {calibration.calibrate().factor:.2f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        async with rig.running(pathlib.Path(folder)) as mesh:
            found = await measure(mesh, list(cases(loads, parts)), asked)
            print("(ours | minimal)", *lines(found), sep="\n", flush=True)
            worst = max(ratio(pairs) for (_, variant), pairs in found.items() if variant.metrics and variant.logs)
            print(f"at most {worst:.2f} times the CPU of the minimal configuration with telemetry on (goal: {LIMIT})")
            if asked.services:
                print(*[line async for line in memory.lines(mesh, asked.services)], sep="\n")
    print(f"load average {os.getloadavg()[0]:.1f}, calibration factor {calibration.calibrate().factor:.2f}")


def main() -> int:
    """Run; 1 where a part failed. A bad figure is told, but is no failure."""
    top = argparse.ArgumentParser(prog="bench.dataplane", description=__doc__)
    top.add_argument("--rounds", type=int, default=5)
    top.add_argument("--seconds", type=float, default=6, help="of each measurement")
    top.add_argument("--loads", type=int, default=len(LOADS), help="how many rates and sizes")
    top.add_argument("--brief", action="store_true", help="not with parts switched off")
    top.add_argument("--together", action="store_true", help="measure both at once: for machines that others use")
    top.add_argument("--services", type=int, nargs="*", default=[100, 1000], help="how many, for Envoy's memory")
    try:
        asyncio.run(run(top.parse_args()))
    except (BenchError, MeshError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m conformance [GROUP ...] [--sample N --seed S] [--json FILE]``; docs/conformance.md says how to read it.

Exit status 1 where the cases are absent or a judge crashed; differences are the result, not an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from conformance import accepted, groups, instruments, run
from conformance.run import Verdict

_LINES = 4
"""Differences that are shown of a failing case."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = list(groups.BY_NAME)
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(names)}; none: the usual ones")
    parser.add_argument("--sample", type=int, metavar="N", help="at most N cases of each group")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default 1)")
    parser.add_argument("--case", default="", metavar="PREFIX", help="only cases whose name starts so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every difference there")
    found = parser.parse_args(argv)
    if unknown := set(found.groups) - set(names):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    found.groups = found.groups or [group.name for group in groups.GROUPS if group.usual]
    return found


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each group, then every failing case with what differs."""
    names = dict.fromkeys(verdict.group for verdict in verdicts)
    lines = []
    for name in names:
        mine = [verdict for verdict in verdicts if verdict.group == name]
        lines.append(f"{name}: {sum(verdict.passed for verdict in mine)} of {len(mine)}")
    for verdict in verdicts:
        if not verdict.passed:
            lines += described(verdict)
    return lines


def described(verdict: Verdict) -> list[str]:
    """A failing case for people: one difference of each field, the most frequent fields first."""
    head = f"{verdict.group}/{verdict.case}"
    if verdict.crash:
        return [f"{head}: crashed", *(f"    {line}" for line in verdict.crash.splitlines()[-_LINES:])]
    places = len({each.where for each in verdict.differences})
    by_field = {each.field: each for each in reversed(verdict.differences)}
    counts = [each.field for each in verdict.differences]
    chosen = sorted(by_field.values(), key=lambda each: -counts.count(each.field))[:_LINES]
    lines = [f"    {each}" for each in chosen]
    if (more := len(by_field) - len(chosen)) > 0:
        lines.append(f"    and {more} more fields")
    return [f"{head}: {len(verdict.differences)} differences in {places} places", *lines]


def unused(verdicts: Sequence[Verdict]) -> list[str]:
    """Rows of the table that no case of the groups that were run needs."""
    served = {row for verdict in verdicts for row in verdict.rows}
    ran = {verdict.group for verdict in verdicts}
    return [
        f"accepted.toml: row {index + 1} ({row.reason}) covers nothing"
        for index, row in enumerate(accepted.table().rows)
        if index not in served and any(row.group.fullmatch(group) for group in ran)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Judge, print, and say by the exit status whether that worked."""
    wanted = arguments(argv)
    root = instruments.root()
    if not root.is_dir():
        sys.stderr.write(f"no conformance cases at {root}; set CONFORMANCE\n")
        return 1
    chosen = [task for task in run.tasks(root, wanted.groups) if task.case.startswith(wanted.case)]
    if wanted.sample:
        chosen = run.sample(chosen, wanted.sample, wanted.seed)
    verdicts = list(run.run(chosen))
    whole = not wanted.sample and not wanted.case
    sys.stdout.write("".join(f"{line}\n" for line in (*summary(verdicts), *(unused(verdicts) if whole else ()))))
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(verdict) | {"rows": sorted(verdict.rows)} for verdict in verdicts]))
    return int(not verdicts or any(verdict.crash for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())

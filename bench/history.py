"""Figures of earlier runs, one JSON line each, so that a regression shows."""

from __future__ import annotations

import datetime as dt
import json
import pathlib
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

WORSE: Final = 1.15
"""From this ratio to the last comparable run on a figure is called worse."""
WATCHED: Final = (
    *("first_ms", "endpoint_us", "virtualservice_us", "service_us", "churn_us", "churn50_us", "ready_cpu_s"),
    *("rss_settled_mb", "rss_proxy_kb"),
    *("micro_build_s", "micro_first_ms", "micro_endpoint_us", "micro_virtualservice_us", "micro_service_us"),
)
"""Figures in which less is better. Latencies are kept too, but depend on who else uses the machine."""
_MEMORY: Final = ("_mb", "_kb")

Entry = Mapping[str, Any]


def entry(size: str, mode: str, figures: Mapping[str, float], factor: float) -> Entry:
    """A run as a line; CPU figures are divided by the machine's ``factor``, memory is not."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip(),
        "size": size,
        "mode": mode,
        "factor": round(factor, 3),
        "figures": {
            name: round(figures[name] / (1 if name.endswith(_MEMORY) else factor), 4)
            for name in WATCHED
            if name in figures
        },
    }


def append(path: pathlib.Path, made: Entry) -> None:
    """Add a line."""
    with path.open("a") as file:
        file.write(json.dumps(made) + "\n")


def last(path: pathlib.Path, like: Entry) -> Entry | None:
    """The newest run of the same size and mode, or None."""
    found: Entry | None = None
    for line in path.read_text().splitlines() if path.exists() else ():
        known = json.loads(line)
        if (known["size"], known["mode"]) == (like["size"], like["mode"]):
            found = known
    return found


def worse(before: Entry, now: Entry) -> Iterator[str]:
    """A line for each figure that is more than 15 % worse than before."""
    for name, value in now["figures"].items():
        known = before["figures"].get(name)
        if known and value > known * WORSE:
            percent = (value / known - 1) * 100
            since = f"{before['commit']}, {before['date']}"
            yield f"WORSE by {percent:.0f} %: {name} {known:g} -> {value:g} (since {since})"

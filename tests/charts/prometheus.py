"""Prometheus' own parser and engine: the Go program of the folder promql, and what Grafana does to a query before."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

NEEDS_GO: Final = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, as make bench does")
_VARIABLE: Final = re.compile(r"\$\{?(\w+)(:\w+)?\}?")
_LABEL_VALUES: Final = re.compile(r"label_values\((?P<metric>.*), (?P<label>\w+)\)")
_RESULT: Final = re.compile(r"query_result\((.*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """What a target said, when (as time.time()), and the labels that Prometheus knows the target by."""

    moment: float
    labels: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of an answer; ``value`` is NaN where it is no finite number."""

    labels: Mapping[str, str]
    value: float


def built(folder: Path) -> Path:
    """The program, in a folder of its own."""
    program = folder / "promql"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    source = shutil.copytree(Path(__file__).parent / "promql", folder / "source")
    subprocess.run(["go", "build", "-o", program, "."], cwd=source, env=environment, check=True, timeout=900)
    return program


def parsed(program: Path, expressions: Iterable[str]) -> tuple[int, list[str]]:
    """How the parser ended, and what it said of each expression."""
    said = subprocess.run([program], input="\n".join(expressions), text=True, capture_output=True, check=False)
    return said.returncode, said.stdout.splitlines()


def evaluated(program: Path, scrapes: Iterable[Scrape], queries: Sequence[str]) -> list[list[Series]]:
    """What each query finds at the time of the last scrape."""
    given = {
        "scrapes": [{"time": round(each.moment * 1000), "labels": each.labels, "text": each.text} for each in scrapes],
        "queries": queries,
    }
    said = subprocess.run(
        [program, "evaluate"], input=json.dumps(given), text=True, capture_output=True, check=False, timeout=120
    )
    assert said.returncode == 0, said.stderr
    answers: list[list[dict[str, Any]] | None] = json.loads(said.stdout)
    return [[_series(one) for one in answer or ()] for answer in answers]


def _series(said: Mapping[str, Any]) -> Series:
    return Series(labels=said["labels"] or {}, value=math.nan if said["value"] is None else said["value"])


def replaced(query: str, values: Mapping[str, str]) -> str:
    """The query with Grafana's variables replaced; its durations are five minutes and an hour."""
    said = query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("\n", " ")
    return _VARIABLE.sub(lambda found: values.get(found[1], "x"), said)


def of_variable(query: str) -> str:
    """What gives a variable its values, each in a label; "" of a panel's query."""
    if (result := _RESULT.fullmatch(query)) is not None:
        return result[1]
    found = _LABEL_VALUES.fullmatch(query)
    return "" if found is None else f"group({found['metric']}) by ({found['label']})"


def every(found: Iterable[Series]) -> str:
    """All values of a variable, as Grafana writes them where a user chooses all."""
    values = sorted({value for one in found for value in one.labels.values()})
    return "|".join(re.escape(each).replace("\\", "\\\\") for each in values)

"""Queries of dashboards and alerts, read by Prometheus' own parser (a Go module)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.charts.test_dashboards import queries

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, as make bench does"),
]
_OF_GRAFANA = "label_values"
_VARIABLE = re.compile(r"\$\{?\w+(:\w+)?\}?")


def parsed(program: Path, expressions: Iterable[str]) -> tuple[int, list[str]]:
    said = subprocess.run([program], input="\n".join(expressions), text=True, capture_output=True, check=False)
    return said.returncode, said.stdout.splitlines()


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    program = tmp_path / "promql"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    folder = shutil.copytree(Path(__file__).parent / "promql", tmp_path / "source")
    subprocess.run(["go", "build", "-o", program, "."], cwd=folder, env=environment, check=True)

    said = [query for _, query in queries() if not query.startswith(_OF_GRAFANA)]
    durations = [query.replace("$__rate_interval", "5m").replace("$__range", "1h") for query in said]
    given = [_VARIABLE.sub("x", query).replace("\n", " ") for query in durations]
    assert len(given) > 100
    assert parsed(program, given) == (0, ["parsed"] * len(given))
    assert parsed(program, [*given[:1], "sum(rate(x)"])[0] == 1

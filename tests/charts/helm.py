"""Real helm on the charts of this repository."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from e2e.harness import tools

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
SYSTEM = "istio-system"
Object = dict[str, Any]
# What people and machines write; surrogates, controls and what is no character at all, YAML itself cannot hold.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("\n\t\"'{}:#&*!|>%@`\\$-[],? "), max_size=30
)


class RefusedError(Exception):
    """helm ended with an error; the message is what it said."""


def run(*arguments: str, stdin: str = "") -> str:
    """What a helm command prints.

    Raises:
        RefusedError: it fails.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [tools.find()["helm"], *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RefusedError(done.stderr)
    return done.stdout


def render(
    chart: str, values: Mapping[str, Any] | None = None, *flags: str, release: str = "test", namespace: str = SYSTEM
) -> list[Object]:
    """The objects that a release would have."""
    arguments = ("template", release, str(CHARTS / chart), "-n", namespace, "-f", "-", *flags)
    made = yaml.load_all(run(*arguments, stdin=json.dumps(values or {}, ensure_ascii=False)), Loader=yaml.CSafeLoader)
    return [each for each in made if each]


def notes(chart: str, values: Mapping[str, Any] | None = None, release: str = "test") -> str:
    """What a user reads after an installation."""
    arguments = ("install", release, str(CHARTS / chart), "-n", SYSTEM, "--dry-run=client", "-f", "-")
    return run(*arguments, stdin=json.dumps(values or {}, ensure_ascii=False)).partition("NOTES:")[2]


def one(objects: list[Object], kind: str, name: str = "") -> Object:
    """The only object of a kind, or that of a name."""
    found = [each for each in objects if each["kind"] == kind and name in {"", each["metadata"]["name"]}]
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]


def pods(objects: list[Object]) -> Iterator[Object]:
    """The pod templates of all workloads."""
    for each in objects:
        if each["kind"] in {"Deployment", "DaemonSet"}:
            yield each["spec"]["template"]


def nested(path: str, value: object) -> dict[str, Any]:
    """Values that say one thing, at a path such as ``global.hub``."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def merged(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """``one`` under ``two``."""
    both = {key: merged(one[key], two[key]) for key in one.keys() & two.keys() if isinstance(one[key], dict)}
    return {**one, **two, **both}

"""Labels of workloads and what selects by them (Istio: labels.Instance.Validate, validateWorkloadSelector)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from crds import path
from crds.checks import values
from crds.checks.findings import Findings

_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_KEY: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LONGEST_VALUE: Final = 63


def check(found: Findings, field: str, said: Mapping[str, str]) -> None:
    """Labels as Kubernetes has them."""
    for key, value in said.items():
        prefix, slash, name = key.rpartition("/")
        if not _KEY.match(name) or (slash and values.domain(prefix) is not None):
            found.error(path.child(field, key), f"{key!r} is no name of a label")
        if not _VALUE.match(value):
            found.error(path.child(field, key), f"{value!r} is no value of a label")


def selector(found: Findings, field: str, said: Mapping[str, str]) -> None:
    """Labels that a workload must have: any name but "", and no patterns."""
    for name, value in said.items():
        if not name or "*" in name + value or len(value) > _LONGEST_VALUE:
            message = f"a selector has no wildcards, no empty names and values of at most {_LONGEST_VALUE} characters"
            found.error(path.child(field, name), message)

"""Istio's own injection cases: which are as Istio has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import groups, injection, instruments, run

CASES = [path for path, _ in groups.BY_NAME["inject"].cases(instruments.root())]
REQUIRED = [path for path, _ in groups.BY_NAME["inject_required"].cases(instruments.root())]
pytestmark = pytest.mark.skipif(not CASES, reason=f"no conformance cases in {instruments.root()}")


@pytest.mark.parametrize("path", CASES, ids=groups.name_of)
def test_pod_is_as_istio_makes_it(path: Path) -> None:
    name = groups.name_of(path)
    left, _ = run.sort("inject", name, injection.pod(path))
    assert [str(each) for each in left] == []


@pytest.mark.parametrize(
    "path", [path for path in REQUIRED if path.parent.name == "inject_required"], ids=groups.name_of
)
def test_policy_decides_as_istios(path: Path) -> None:
    assert [str(each) for each in injection.required(path)] == []


@pytest.mark.parametrize(
    "path", [path for path in REQUIRED if path.parent.name == "custom_templates"], ids=groups.name_of
)
def test_templates_of_an_administrator_are_merged_as_istio_merges_them(path: Path) -> None:
    assert [str(each) for each in injection.template(path)] == []

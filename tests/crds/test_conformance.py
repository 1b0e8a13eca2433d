"""Inputs and verdicts from outside, where the folder is there: ``CONFORMANCE``, by default beside the repository."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crds import lines, registry
from crds.diagnostic import Code
from crds.parse import Parsed, parse
from crds.text import UnreadableError

ROOT = Path(os.environ.get("CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance"))
MODELLED = {kind for group, kind in registry.KINDS if "istio.io" in group and registry.KINDS[group, kind].model}
LEAST_AGREEMENT = 0.97  # 291 of 299: what is left is listed in docs/limits.md

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance cases in {ROOT}")


def _documents(folder: str) -> Iterator[tuple[Path, Parsed]]:
    for file in sorted((ROOT / folder).rglob("*.y*ml")):
        try:
            loaded = [lines.load(file.name, chunk) for chunk in lines.split(file.name, file.read_text())]
        except UnreadableError:
            continue  # a Helm template
        for document in loaded:
            for _, item in lines.unroll(document):
                if isinstance(item, dict) and "apiVersion" in item:
                    yield file, parse(item)


@pytest.mark.parametrize("folder", ["samples", "scenarios"])
def test_every_object_that_istio_accepts_is_accepted_with_all_its_fields(folder: str) -> None:
    count = 0
    for file, parsed in _documents(folder):
        codes = {finding.code for finding in parsed.diagnostics}
        if parsed.key is not None:
            count += 1
            assert parsed.object is not None, (file, [str(finding) for finding in parsed.diagnostics])
        assert Code.UNKNOWN_FIELD not in codes, (file, [str(finding) for finding in parsed.diagnostics])
    assert count > 100


def _cases() -> Iterator[dict[str, Any]]:
    for file in sorted((ROOT / "validation" / "cases").rglob("*.json")):
        case = json.loads(file.read_text())
        if case["kind"] in MODELLED:
            yield case


def test_verdicts_agree_with_istios() -> None:
    differing, count = [], 0
    for case in _cases():
        wanted = bool(case.get("valid", case.get("webhook_valid")) and case["crd_valid"])
        (chunk,) = lines.split("case.yaml", case["object_yaml"])
        accepted = parse(lines.load("case.yaml", chunk)).object is not None
        count += 1
        if accepted != wanted:
            differing.append(case["name"])
    assert (count - len(differing)) / count >= LEAST_AGREEMENT, differing

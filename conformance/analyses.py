"""Messages of Istio's analyzer tests, one analyzer a case: group analysis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from conformance import difference
from conformance.difference import Difference
from crds import text
from istiod.analysis import analyzers, defaults, documents, fields
from istiod.analysis.resources import Collection

_LINE: Final = re.compile(r":(\d+)\)")


def messages(path: Path) -> Iterator[Difference]:
    """Every message with its object, text and line: how often it is wanted and given."""
    case = json.loads(path.read_text())
    chosen = [each for each in analyzers.ALL if each.name == case["analyzer"]]
    if not chosen:
        yield difference.of("", "analyzer", case["analyzer"], None)
        return
    given = _lines(str(each) for each in analyzers.run(chosen, _collection(case)))
    wanted = _lines(each["text"] for each in case["expected_messages"])
    for said in sorted(given.keys() | wanted.keys()):
        theirs, ours = wanted.get(said, []), given.get(said, [])
        if len(theirs) != len(ours):
            yield difference.of("", f"times {said}", len(theirs), len(ours))
        else:
            yield from difference.leaves("", f"line {said}", theirs, ours)


def _lines(said: Iterable[str]) -> dict[str, list[int]]:
    """Messages without their lines, and the lines on which each is shown."""
    found: dict[str, list[int]] = {}
    for each in said:
        line = _LINE.search(each)
        found.setdefault(_LINE.sub(")", each, count=1), []).append(int(line.group(1)) if line else 0)
    return {each: sorted(lines) for each, lines in found.items()}


def _collection(case: Any) -> Collection:
    files = zip(case["input_files"], (each["yaml"] for each in case["inputs"]), strict=True)
    read = documents.read(files)
    mesh = fields.record(text.load(case["mesh_config_yaml"] or ""))
    networks = fields.record(text.load(case["mesh_networks_yaml"] or ""))
    found = [*read.resources, *defaults.resources(mesh)]
    return Collection(found, mesh=mesh, networks=networks, now=datetime.now(UTC))

"""Inputs and verdicts from outside, where the folder is there: ``CONFORMANCE``, by default beside the repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import groups, instruments, verdicts
from crds import lines
from crds.diagnostic import Code
from crds.parse import Parsed, parse
from crds.text import UnreadableError

ROOT = instruments.root()
LEAST_AGREEMENT = 0.99  # 303 of 305: the others are accepted differences (conformance/accepted.toml)

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


def test_verdicts_agree_with_istios() -> None:
    cases = [path for path, _ in groups.BY_NAME["validation"].cases(ROOT)]
    differing = [path.stem for path in cases if list(verdicts.verdict(path))]
    assert (len(cases) - len(differing)) / len(cases) >= LEAST_AGREEMENT, differing

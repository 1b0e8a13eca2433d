"""Verdicts for people, for programs, and for what reads JUnit's XML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from istioctl.testing.judging import Failure, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A test's verdict, and the line on which the test begins."""

    line: int
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A file's tests."""

    file: str
    tests: tuple[Told, ...]


def text(results: Sequence[Result]) -> str:
    """A line for each test; under one that did not hold what was expected, what happened, and by which YAML."""
    lines: list[str] = []
    for each in results:
        lines.append(each.file)
        for one in each.tests:
            lines += _lines(each.file, one)
        lines.append("")
    every = [one.verdict for each in results for one in each.tests]
    passed, skipped = sum(one.passed for one in every), sum(bool(one.skipped) for one in every)
    failed = len(every) - passed - skipped
    tail = f", {skipped} skipped" if skipped else ""
    lines.append(f"{len(every)} {'test' if len(every) == 1 else 'tests'}: {passed} passed, {failed} failed{tail}")
    return "".join(f"{_printable(line)}\n" for line in lines)


def _lines(file: str, one: Told) -> Iterator[str]:
    verdict = one.verdict
    name, took = verdict.case.name, f"({verdict.seconds * 1000:.0f} ms)"
    if verdict.skipped:
        yield f"  SKIP  {name}: {verdict.skipped}"
        return
    yield f"  {'PASS' if verdict.passed else 'FAIL'}  {name} {took}"
    yield from (f"        {name} is not looked at by this engine" for name in verdict.unseen)
    if verdict.failures:
        yield f"        at {file}:{one.line}"
    for failure in verdict.failures:
        yield f"        {failure.field}"
        yield f"          expected  {failure.expected}"
        yield f"          happened  {failure.happened}"
    for cause in dict.fromkeys(cause for failure in verdict.failures for cause in failure.causes):
        yield f"        <- {cause}"
    for other in dict.fromkeys(other for failure in verdict.failures for other in failure.others):
        yield f"        not {other}"
    if verdict.hint:
        yield f"        more: {verdict.hint}"


def _printable(line: str) -> str:
    return line if line.isprintable() else "".join(filter(str.isprintable, line))


def plain(results: Sequence[Result]) -> str:
    """JSON: a list of tests."""
    found = [
        {
            "file": each.file,
            "line": one.line,
            "name": one.verdict.case.name,
            "result": _word(one.verdict),
            "seconds": round(one.verdict.seconds, 6),
            "reason": one.verdict.skipped or None,
            "unseen": list(one.verdict.unseen),
            "failures": [_failure(failure) for failure in one.verdict.failures],
        }
        for each in results
        for one in each.tests
    ]
    return json.dumps(found, indent=4, ensure_ascii=False) + "\n"


def _word(verdict: Verdict) -> str:
    if verdict.skipped:
        return "skipped"
    return "passed" if verdict.passed else "failed"


def _failure(failure: Failure) -> dict[str, object]:
    return {
        "field": failure.field,
        "expected": failure.expected,
        "happened": failure.happened,
        "causes": list(failure.causes),
        "others": list(failure.others),
    }


def junit(results: Sequence[Result]) -> str:
    """JUnit's XML, as CI systems read it."""
    top = ET.Element("testsuites")
    for each in results:
        verdicts = [one.verdict for one in each.tests]
        suite = ET.SubElement(
            top,
            "testsuite",
            name=_clean(each.file),
            tests=str(len(verdicts)),
            failures=str(sum(bool(one.failures) for one in verdicts)),
            skipped=str(sum(bool(one.skipped) for one in verdicts)),
            errors="0",
            time=f"{sum(one.seconds for one in verdicts):.3f}",
        )
        for one in each.tests:
            _element(suite, each.file, one)
    ET.indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _element(suite: ET.Element, file: str, one: Told) -> None:
    verdict = one.verdict
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_clean(file),
        name=_clean(verdict.case.name),
        file=_clean(file),
        line=str(one.line),
        time=f"{verdict.seconds:.3f}",
    )
    if verdict.skipped:
        ET.SubElement(case, "skipped", message=_clean(verdict.skipped))
    for each in verdict.failures:
        message = _clean(f"{each.field}: expected {each.expected}, happened {each.happened}")
        failure = ET.SubElement(case, "failure", type=each.field, message=message)
        failure.text = _clean("\n".join((*each.causes, *(f"not {other}" for other in each.others))))


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(one for one in text if one.isprintable() or one in "\n\t")

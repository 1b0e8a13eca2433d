"""What the command ``test`` does: files in, verdicts out; the exit code is for CI."""

from __future__ import annotations

import argparse
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crds.diagnostic import Severity
from istioctl import output
from istioctl.errors import CommandError
from istioctl.offline import world
from istioctl.offline.world import World
from istioctl.testing import judging, reading, reporting
from istioctl.testing.compiled import Compiled
from istioctl.testing.judging import Verdict
from istioctl.testing.reading import Suite
from istioctl.testing.seen import Engine
from istioctl.testing.spec import Case
from istiod.envoy.compiler import Compiler

PASSED, FAILED, UNREADABLE = 0, 1, 2
_PRINTERS: Final = {"short": reporting.text, "json": reporting.plain, "junit": reporting.junit}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mesh:
    """The files of a mesh, and what they give."""

    paths: tuple[str, ...]
    texts: Mapping[str, bytes]
    world: World

    @property
    def flags(self) -> str:
        """The files as flags of other commands."""
        return shlex.join(word for path in self.paths for word in ("-f", path))


def run(given: argparse.Namespace) -> int:
    """Run the tests, print what came of them, and say by the exit code whether all held."""
    try:
        suites = _wanted(reading.read(given.tests), given.filter)
        results = [_result(suite, verdicts) for suite, verdicts in _verdicts(suites, given)]
    except CommandError as error:
        output.complain(str(error))
        return UNREADABLE
    output.say(_PRINTERS[given.output](results))
    return (
        PASSED if all(one.verdict.passed or one.verdict.skipped for each in results for one in each.tests) else FAILED
    )


def _wanted(suites: Sequence[Suite], name: str) -> list[Suite]:
    """Those with tests whose names hold a pattern, without their other tests."""
    try:
        pattern = re.compile(name)
    except re.error as error:
        raise CommandError(f"--filter {name!r} is no regular expression: {error}") from error
    found = [each for each in (_filtered(suite, pattern) for suite in suites) if each.cases]
    if not found:
        raise CommandError(f"no test's name holds {name!r}")
    return found


def _filtered(suite: Suite, pattern: re.Pattern[str]) -> Suite:
    kept = [(case, line) for case, line in zip(suite.cases, suite.lines, strict=True) if pattern.search(case.name)]
    return replace(suite, cases=tuple(case for case, _ in kept), lines=tuple(line for _, line in kept))


def _result(suite: Suite, verdicts: Sequence[Verdict]) -> reporting.Result:
    told = zip(suite.lines, verdicts, strict=True)
    return reporting.Result(file=suite.file, tests=tuple(reporting.Told(line=line, verdict=one) for line, one in told))


def _verdicts(suites: Sequence[Suite], given: argparse.Namespace) -> Iterator[tuple[Suite, list[Verdict]]]:
    """Suites of one mesh share it."""
    meshes: dict[tuple[str, ...], _Mesh] = {}
    compiler = Compiler()
    for suite in suites:
        paths = (*given.filename, *suite.mesh)
        if not paths:
            raise CommandError(f"{suite.file}: which mesh? Name its YAML with -f, or with mesh: in the file")
        if paths not in meshes:
            meshes[paths] = _mesh(suite.file, paths, compiler)
    for paths, mesh in meshes.items():
        mine = [each for each in suites if (*given.filename, *each.mesh) == paths]
        engine = _engine(mesh, [case for suite in mine for case in suite.cases], envoy=given.envoy)
        for suite in mine:
            yield suite, [_judged(suite, number, engine) for number in range(len(suite.cases))]


def _mesh(suite: str, paths: tuple[str, ...], compiler: Compiler) -> _Mesh:
    try:
        texts = {name: text for name, text in world.contents(paths) if not reading.is_tests(name, text)}
        found = world.of_contents(texts, compiler)
    except CommandError as error:
        raise CommandError(f"the mesh of {suite}: {error}") from error
    errors = world.errors(found)
    unread = {one for one in found.files.diagnostics if one.severity is Severity.ERROR}
    if unread:
        raise CommandError("\n".join(f"the mesh: {one}" for one in errors if one in unread))
    for one in errors:
        output.complain(f"the mesh: {one}", "Warning")
    return _Mesh(paths=paths, texts=texts, world=found)


def _engine(mesh: _Mesh, cases: Sequence[Case], *, envoy: bool) -> Engine:
    if not envoy:
        return Compiled(mesh.world, mesh.flags)
    from istioctl.testing.envoys.engine import Envoys  # noqa: PLC0415 (its second of imports is not the others' to pay)

    return Envoys(mesh.world, mesh.texts, mesh.flags, cases)


def _judged(suite: Suite, number: int, engine: Engine) -> Verdict:
    case, started = suite.cases[number], time.perf_counter()
    try:
        seen = engine.see(case)
        took = time.perf_counter() - started if seen.seconds is None else seen.seconds
        return judging.judge(case, seen, engine, took)
    except CommandError as error:
        raise CommandError(f"{suite.file}:{suite.lines[number]}: test {case.name!r}: {error}") from error

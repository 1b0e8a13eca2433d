"""Test files to cases. What is wrong with one is said with its line, its field and the reason."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from crds import lines, path
from crds.text import Chunk, UnreadableError
from istioctl import texts
from istioctl.errors import CommandError
from istioctl.testing.spec import Case, Part, TestFile
from istiod.watch import tree

_SHAPES: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "model_type": "must have fields",
    "tuple_type": "must be a list",
    "bool_type": "must be true or false",
    "string_type": "must be a string; write it in quotes",
    "int_type": "must be a whole number",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A file: its tests, where each begins, and the files of its mesh."""

    file: str
    mesh: tuple[str, ...]
    cases: tuple[Case, ...]
    lines: tuple[int, ...]


def read(paths: Sequence[str]) -> list[Suite]:
    """The suites of files and folders. In a folder files that do not say ``tests:`` are passed over.

    Raises:
        CommandError: one cannot be read; the message names every mistake in the first bad file.
    """
    try:
        found = [suite for each in paths for suite in _of_path(Path(each))]
    except OSError as error:
        raise CommandError(f"cannot read {error.filename}: {error.strerror}") from error
    if not found:
        raise CommandError(f"no file with tests: in {', '.join(paths)}")
    return found


def _of_path(top: Path) -> Iterator[Suite]:
    if not top.exists():
        raise CommandError(f"there is no {top}")
    if not top.is_dir():
        yield _suite(top, _document(top))
        return
    for file in sorted(each for each in top.rglob("*") if each.is_file() and each.suffix in tree.SUFFIXES):
        read = _document(file, strict=False)
        if _has_tests(read[1]):
            yield _suite(file, read)


def is_tests(name: str, content: bytes) -> bool:
    """Whether a file is one of tests: they may stand among the YAML of their mesh."""
    if b"tests:" not in content:
        return False
    chunks = list(lines.split(name, content.decode(errors="replace")))
    try:
        return len(chunks) == 1 and _has_tests(lines.load(name, chunks[0]))
    except UnreadableError:
        return False


def _has_tests(document: object) -> bool:
    return isinstance(document, dict) and "tests" in document and "kind" not in document


def _document(file: Path, *, strict: bool = True) -> tuple[Chunk, Any]:
    content = texts.read(str(file))
    chunks = list(lines.split(file.name, content))
    if len(chunks) != 1:
        if not strict:
            return Chunk(0, ""), None
        raise CommandError(f"{file}: has {len(chunks)} documents; a file of tests has one, with mesh: and tests:")
    try:
        return chunks[0], lines.load(file.name, chunks[0])
    except UnreadableError as error:
        if not strict and "tests:" not in content:  # it is no file of tests
            return chunks[0], None
        raise CommandError(f"{file}:{chunks[0].line + error.line + 1}: {error}") from error


def _suite(file: Path, document: tuple[Chunk, Any]) -> Suite:
    chunk, value = document
    index = lines.find(chunk)
    if not isinstance(value, dict):
        raise CommandError(f"{file}:{index['']}: a file of tests has the fields mesh: and tests:")
    try:
        found = TestFile.model_validate(value)
    except ValidationError as error:
        told = [_told(one) for one in _themselves(error.errors(include_url=False))]
        several = dict.fromkeys(f"{file}:{lines.nearest(index, '', field)}: {field}: {text}" for field, text in told)
        raise CommandError("\n".join(several)) from error
    _once(file, index, found)
    return Suite(
        file=str(file),
        mesh=tuple(os.path.normpath(file.parent / each) for each in found.mesh),
        cases=found.tests,
        lines=tuple(index[f"tests[{number}]"] for number in range(len(found.tests))),
    )


def _themselves(details: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Without lists that are short only because their items are wrong."""
    places = [one["loc"] for one in details]
    for one in details:
        size = len(one["loc"])
        if one["type"] != "too_short" or not any(place[:size] == one["loc"] != place for place in places):
            yield one


def _once(file: Path, index: Mapping[str, int], found: TestFile) -> None:
    """Names tell tests apart in reports, so none may stand twice."""
    seen: set[str] = set()
    for number, case in enumerate(found.tests):
        if case.name in seen:
            place = f"{file}:{index[f'tests[{number}]']}: tests[{number}].name"
            raise CommandError(f"{place}: {case.name!r} is an earlier test's name, too")
        seen.add(case.name)


def _told(detail: ErrorDetails) -> tuple[str, str]:
    """The field and the reason."""
    steps = tuple(each for each in detail["loc"] if not _is_branch(each))
    field = path.join(steps)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(steps[-1]), _fields(steps[:-1]), 1)
        return field, "unknown field" + (f"; did you mean {near[0]}?" if near else "")
    said = detail["msg"].removeprefix("Value error, ").replace("Input should be ", "must be ", 1)
    return field or "the file", _SHAPES.get(detail["type"], said)


def _is_branch(step: int | str) -> bool:
    """Whether a step is not the file's but the name of a branch of a union."""
    return isinstance(step, str) and (step in ("bool", "str", "constrained-str") or "[" in step)


def _fields(steps: Sequence[int | str]) -> list[str]:
    """The fields that the part of a file at a path may have."""
    kind: Any = TestFile
    for step in (each for each in steps if isinstance(each, str)):
        known = {field.alias or name: field for name, field in kind.model_fields.items()}
        kind = next(_models(known[step].annotation)) if step in known else Part
    return [field.alias or name for name, field in kind.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)

"""YAML text to plain values, as the Kubernetes API reads it, and without what hostile text could do to us.

Differences from a usual YAML loader, each on purpose: numbers and booleans resolve as kubectl's YAML library resolves
them (0755 is octal, 1e3 a number, 12:30 a string, dates strings), but for a lone y or n, which most writers of YAML
leave unquoted when they mean the letter; every key is a string; a key given twice is an error
(kubectl refuses it too); nesting is bounded, and what aliases blow up to is bounded. The same pass can note on which
line each field stands.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml import events

from crds import path

DEEPEST: Final = 100
MOST_ALIASED: Final = 100_000  # values that the aliases of one document may stand for
_LONGEST_NUMBER: Final = 400
_BOUNDARY: Final = re.compile(r"^(?:(?=---[ \t\r\n])|(?=---\Z)|\.\.\.(?=[ \t\r\n]|\Z))", re.MULTILINE)
_DIRECTIVES_ONLY: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:%[^\n]*\n)(?:[ \t]*(?:[#%][^\n]*)?\r?\n)*\Z")
_INT: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NUMBER_START: Final = frozenset("0123456789+-.")
_WORDS: Final[Mapping[str, bool | None]] = {
    word: value
    for value, words in {
        None: "null Null NULL ~",
        True: "true True TRUE yes Yes YES on On ON",
        False: "false False FALSE no No NO off Off OFF",
    }.items()
    for word in (*words.split(), *([""] if value is None else []))
}
_TAG: Final = "tag:yaml.org,2002:"
_RESOLVED_TAGS: Final = frozenset(_TAG + name for name in ("int", "float", "bool", "null"))
_MERGE: Final = "<<"


class UnreadableError(ValueError):
    """Text that is no YAML we accept. ``line`` counts from 0 within the text."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one document; ``line`` is where it starts in its file, from 0."""

    line: int
    text: str


def split(text: str) -> Iterator[Chunk]:
    """The documents of a file. A marker at the start of a line ends a document wherever it stands (YAML 1.2, 9.1.4).

    Splitting before parsing means that one broken document does not hide the others, and that unchanged documents of
    a changed file need no parsing.
    """
    start, line = 0, 0
    for end in (*(match.end() for match in _BOUNDARY.finditer(text)), len(text)):
        part = text[start:end]
        if _DIRECTIVES_ONLY.match(part):
            continue
        if part.strip():
            yield Chunk(line, part)
        line += part.count("\n")
        start = end


def load(text: str) -> Any:
    """The value of the one document in ``text``; None where there is none.

    Raises:
        UnreadableError: the text is no YAML, or nests too deep, or its aliases stand for too much.
    """
    return _Builder(text, None).build()


def lines(text: str) -> Mapping[str, int]:
    """Field path -> line from 0, for every field and item of the one document in ``text``.

    Raises:
        UnreadableError: as for load.
    """
    found: dict[str, int] = {}
    _Builder(text, found).build()
    return found


def scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START or len(text) > _LONGEST_NUMBER:
        return text
    digits = text.replace("_", "")
    if _INT.match(digits):
        return _integer(digits)
    if _FLOAT.match(digits):
        return float(digits)
    return text


def _integer(text: str) -> int:
    sign, body = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
        return sign * int(body, 8)
    return sign * int(body, 0)


@dataclass(slots=True)
class _Frame:
    """A mapping or sequence that is being read."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    path: str
    size: int = 1
    key: str | None = None
    merging: bool = False
    merge_line: int = 0
    merged: list[Any] = field(default_factory=list)


class _Builder:
    """Builds values from parser events, without recursion."""

    def __init__(self, text: str, found: dict[str, int] | None) -> None:
        self._text = text
        self._lines = found
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0
        self._root: Any = None

    def build(self) -> Any:
        handlers: dict[type[events.Event], Callable[[Any], None]] = {
            events.ScalarEvent: self._scalar,
            events.MappingStartEvent: self._mapping,
            events.SequenceStartEvent: self._sequence,
            events.MappingEndEvent: self._end,
            events.SequenceEndEvent: self._end,
            events.AliasEvent: self._alias,
        }
        parser = yaml.CBaseLoader(self._text)
        while (event := self._next(parser)) is not None:
            handle = handlers.get(type(event))
            if handle is not None:
                handle(event)
        return self._root

    def _next(self, parser: yaml.CBaseLoader) -> Any:
        try:
            return parser.get_event()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line if mark else 0
            raise UnreadableError(f"no YAML: {error.problem}{_hint(self._text, line)}", line) from error
        except yaml.YAMLError as error:  # a character that YAML forbids
            line = self._text.count("\n", 0, getattr(error, "position", 0))
            raise UnreadableError(f"no YAML: {str(error).partition(chr(10))[0]}", line) from error

    def _scalar(self, event: events.ScalarEvent) -> None:
        plain = event.implicit[0] if event.tag is None else event.tag in _RESOLVED_TAGS
        if self._takes_key():
            self._key(event, event.value, merge=plain and event.value == _MERGE)
            return
        value = scalar(event.value) if plain else event.value
        self._add(value, 1, event, event.anchor)

    def _mapping(self, event: events.MappingStartEvent) -> None:
        self._open({}, event)

    def _sequence(self, event: events.SequenceStartEvent) -> None:
        self._open([], event)

    def _alias(self, event: events.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise UnreadableError(f"*{event.anchor} names nothing that stands complete above it", _line(event))
        value, size = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > MOST_ALIASED:
            raise UnreadableError(f"aliases stand for more than {MOST_ALIASED} values", _line(event))
        if self._takes_key():
            self._key(event, str(value), merge=False)
        else:
            self._add(value, size, event, None)

    def _takes_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].key is None and isinstance(self._stack[-1].value, dict)

    def _key(self, event: events.Event, key: str, *, merge: bool) -> None:
        frame = self._stack[-1]
        if key in frame.value and not merge:
            raise UnreadableError(f"key {key!r} stands twice in one place", _line(event))
        frame.key, frame.merging = key, merge
        if merge:
            frame.merge_line = _line(event)
        if self._lines is not None:
            self._lines[path.child(frame.path, key)] = _line(event)

    def _open(self, value: dict[str, Any] | list[Any], event: Any) -> None:
        if self._takes_key():
            line = _line(event)
            raise UnreadableError(f"a key is a list or an object{_hint(self._text, line)}", line)
        if len(self._stack) >= DEEPEST:
            raise UnreadableError(f"nested deeper than {DEEPEST}", _line(event))
        self._stack.append(_Frame(value, event.anchor, self._place(event)))

    def _place(self, event: events.Event) -> str:
        """The path of the value that starts here; notes its line where it is an item."""
        if self._lines is None or not self._stack:
            return ""
        frame = self._stack[-1]
        if frame.key is not None:
            return path.child(frame.path, frame.key)
        place = path.child(frame.path, len(frame.value))
        self._lines[place] = _line(event)
        return place

    def _end(self, _: events.Event) -> None:
        frame = self._stack.pop()
        for merged in frame.merged:
            _merge(frame.value, merged, frame.merge_line)
        self._put(frame.value, frame.size, frame.anchor)

    def _add(self, value: Any, size: int, event: events.Event, anchor: str | None) -> None:
        self._place(event)
        self._put(value, size, anchor)

    def _put(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.merging:
            frame.merged.append(value)
        else:
            frame.value[str(frame.key)] = value
        frame.key = None


def _merge(value: Any, merged: Any, line: int) -> None:
    """YAML 1.1 merge key: fields of one or more mappings, unless they stand here too."""
    for source in merged if isinstance(merged, list) else [merged]:
        if not isinstance(source, dict):
            raise UnreadableError("<<: merges something that is no object", line)
        for key, item in source.items():
            value.setdefault(key, item)


def _hint(text: str, line: int) -> str:
    """What is often the matter with a line that is no YAML."""
    said = next(itertools.islice(text.splitlines(), line, None), "")
    if "{{" in said:
        return "; a template has to be rendered first"
    return "; tabs cannot indent, blanks can" if "\t" in said[: len(said) - len(said.lstrip())] else ""


def _line(event: Any) -> int:
    return int(event.start_mark.line)

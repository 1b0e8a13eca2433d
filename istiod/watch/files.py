"""Files as a source of objects, without I/O: contents in; objects to apply, keys to remove and findings out.

Rules: a document with an error keeps its object's last good version; a file in which something cannot be read at all
loses no object; the same object in two places is served from the first by (path, document), and the others take over
when that one goes. An object without a name gets one from its place, and a finding.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from crds import diagnostic, lines
from crds.diagnostic import Code, Diagnostic, Position, Severity
from crds.key import ConfigKey
from crds.meta import Object
from crds.parse import Parsed, name_stem, parse
from crds.text import Chunk, UnreadableError

LARGEST: Final = 16 * 1024 * 1024  # bytes of one file
_KEPT: Final = "; its last good version keeps serving"
CLOSED: Final = "; until it can be read, the workloads that it selects refuse what it might forbid"
"""What is told of an object that cannot be read, and was never read before, where something stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nameless:
    """A document without a name, and how the name that it gets begins."""

    stem: str
    document: Mapping[str, object]


_Outcome = tuple[tuple[str, Parsed | _Nameless], ...] | UnreadableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object in a file. ``chunk`` is None where it stood in an earlier version of the file only."""

    key: ConfigKey
    object: Object | None
    chunk: Chunk | None
    place: str = ""
    closed: bool = False
    """The object only stands for one that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """What one version of a file gives, and what it keeps of versions before."""

    path: str
    entries: tuple[Entry, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    outcomes: Mapping[str, _Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a new version of a file does to the store."""

    applied: tuple[Object, ...] = ()
    removed: tuple[ConfigKey, ...] = ()


def unreadable(path: str, code: Code, message: str, previous: FileState | None) -> FileState:
    """The state of a file whose content cannot be had: everything it held stays."""
    finding = diagnostic.error(code, None, "", message).at(Position(file=path, line=1))
    kept = tuple(replace(entry, chunk=None) for entry in previous.entries) if previous else ()
    outcomes = previous.outcomes if previous else {}
    return FileState(path=path, entries=kept, diagnostics=(finding,), outcomes=outcomes)


def read(path: str, content: bytes, previous: FileState | None) -> FileState:
    """The state of a file with this content. Documents equal to one of ``previous`` are not parsed again.

    Pure and thread-safe, so that large files can be read off the event loop.
    """
    if len(content) > LARGEST:
        message = f"{len(content)} bytes are more than {LARGEST}; nothing of the file is read"
        return unreadable(path, Code.FILE_TOO_LARGE, message, previous)
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return unreadable(path, Code.UNREADABLE, f"no UTF-8: {error.reason} at byte {error.start}", previous)
    reader = _Reader(path, previous)
    for chunk in lines.split(path, decoded):
        reader.take(chunk)
    return reader.state()


class _Reader:
    """Gathers the documents of one version of a file."""

    def __init__(self, path: str, previous: FileState | None) -> None:
        self._path = path
        self._known = previous.outcomes if previous else {}
        self._before = {entry.key: entry for entry in reversed(previous.entries)} if previous else {}
        self._entries: list[Entry] = []
        self._diagnostics: list[Diagnostic] = []
        self._outcomes: dict[str, _Outcome] = {}
        self._complete = True
        self._nameless: Counter[str] = Counter()

    def take(self, chunk: Chunk) -> None:
        """Read one document."""
        outcome = self._known.get(chunk.text)
        if outcome is None:
            outcome = _parse(self._path, chunk)
        self._outcomes[chunk.text] = outcome
        if isinstance(outcome, UnreadableError):
            self._complete = False
            where = Position(file=self._path, line=chunk.line + outcome.line + 1)
            self._diagnostics.append(diagnostic.error(Code.UNREADABLE, None, "", str(outcome)).at(where))
            return
        items = [(place, self._named(item)) for place, item in outcome]
        index = lines.find(chunk) if any(parsed.diagnostics for _, parsed in items) else {}
        for place, parsed in items:
            more = self._enter(chunk, place, parsed)
            for finding in parsed.diagnostics:
                line = lines.nearest(index, place, finding.field)
                told = replace(finding, message=finding.message + more) if _is_error(finding) else finding
                self._diagnostics.append(told.at(Position(file=self._path, line=line)))

    def _named(self, item: Parsed | _Nameless) -> Parsed:
        """Objects without a name are numbered through the file, and no two files name alike."""
        if isinstance(item, Parsed):
            return item
        self._nameless[item.stem] += 1
        file = blake2b(self._path.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        return parse(item.document, f"{item.stem}{self._nameless[item.stem]}-{file}")

    def state(self) -> FileState:
        """What was read, and what stays because something could not be read."""
        if not self._complete:
            present = {entry.key for entry in self._entries}
            lost = [entry for key, entry in self._before.items() if key not in present]
            self._entries.extend(replace(entry, chunk=None) for entry in lost)
        return FileState(
            path=self._path,
            entries=tuple(self._entries),
            diagnostics=tuple(self._diagnostics),
            outcomes=self._outcomes,
        )

    def _enter(self, chunk: Chunk, place: str, parsed: Parsed) -> str:
        """Note an object; what there is to say of an earlier version, or of another object, in its place."""
        if parsed.key is None:
            return ""
        before = self._before.get(parsed.key)
        good = before.object if before is not None and not before.closed else None
        same = good is not None and good == parsed.object  # then it stays, so that nobody compares the two again
        item = good if same else parsed.object or good or parsed.stand_in
        closed = item is not None and item is parsed.stand_in
        self._entries.append(Entry(key=parsed.key, object=item, chunk=chunk, place=place, closed=closed))
        if parsed.object is not None or item is None:
            return ""
        return CLOSED if closed else _KEPT


def _is_error(finding: Diagnostic) -> bool:
    return finding.severity is Severity.ERROR


def _parse(path: str, chunk: Chunk) -> _Outcome:
    try:
        document = lines.load(path, chunk)
    except UnreadableError as error:
        return error
    if document is None:
        return ()
    return tuple((place, _parse_item(item)) for place, item in lines.unroll(document))


def _parse_item(item: object) -> Parsed | _Nameless:
    if isinstance(item, Mapping):
        stem = name_stem(item)
        return parse(item) if stem is None else _Nameless(stem=stem, document=item)
    message = "no Kubernetes object: it is no mapping"
    return Parsed(diagnostics=(diagnostic.error(Code.NOT_AN_OBJECT, None, "", message),))


class FileSet:
    """All files of the source. ``put`` and ``drop`` say what a change of one file means for the store."""

    def __init__(self) -> None:
        self._files: dict[str, FileState] = {}
        self._holders: dict[ConfigKey, list[tuple[str, int]]] = {}
        self._serving: dict[ConfigKey, Object] = {}
        self._crowded: set[ConfigKey] = set()
        self._loud: set[str] = set()

    def get(self, path: str) -> FileState | None:
        """The state of a file, to read its next version against."""
        return self._files.get(path)

    def put(self, state: FileState) -> Change:
        """A file has a new version."""
        before = self._forget(state.path)
        self._files[state.path] = state
        if state.diagnostics:
            self._loud.add(state.path)
        for index, entry in enumerate(state.entries):
            bisect.insort(self._holders.setdefault(entry.key, []), (state.path, index))
        return self._settle(dict.fromkeys([*before, *(entry.key for entry in state.entries)]))

    def drop(self, path: str) -> Change:
        """A file is gone."""
        return self._settle(self._forget(path))

    def paths(self) -> Iterator[str]:
        """Every file that has a state."""
        return iter(tuple(self._files))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings as they are now, by file and line."""
        found = [finding for path in self._loud for finding in self._files[path].diagnostics]
        for key in self._crowded:
            found.extend(self._duplicates(key))
        return tuple(sorted(found, key=_by_position))

    def position(self, key: ConfigKey, field: str = "") -> Position | None:
        """Where a field of an object stands, or its nearest parent; None where no file holds the object."""
        holders = self._holders.get(key)
        if not holders:
            return None
        return self._position(self._server(key) or holders[0], field)

    def _position(self, holder: tuple[str, int], field: str) -> Position:
        path, index = holder
        entry = self._files[path].entries[index]
        if entry.chunk is None:
            return Position(file=path, line=1)
        return Position(file=path, line=lines.nearest(lines.find(entry.chunk), entry.place, field))

    def _server(self, key: ConfigKey) -> tuple[str, int] | None:
        """The first holder that has a good version."""
        for path, index in self._holders.get(key, ()):
            if self._files[path].entries[index].object is not None:
                return path, index
        return None

    def _forget(self, path: str) -> dict[ConfigKey, None]:
        state = self._files.pop(path, None)
        if state is None:
            return {}
        self._loud.discard(path)
        for index, entry in enumerate(state.entries):
            holders = self._holders[entry.key]
            holders.remove((path, index))
            if not holders:
                del self._holders[entry.key]
        return dict.fromkeys(entry.key for entry in state.entries)

    def _settle(self, keys: Mapping[ConfigKey, None]) -> Change:
        applied: list[Object] = []
        removed: list[ConfigKey] = []
        for key in keys:
            (self._crowded.add if len(self._holders.get(key, ())) > 1 else self._crowded.discard)(key)
            server = self._server(key)
            if server is None:
                if self._serving.pop(key, None) is not None:
                    removed.append(key)
                continue
            path, index = server
            item = self._files[path].entries[index].object
            if item is not None and self._serving.get(key) is not item:
                self._serving[key] = item
                applied.append(item)
        return Change(applied=tuple(applied), removed=tuple(removed))

    def _duplicates(self, key: ConfigKey) -> Iterator[Diagnostic]:
        server = self._server(key)
        for holder in self._holders[key]:
            if server is not None and holder != server:
                message = f"also in {self._position(server, '')}, which serves"
                found = diagnostic.warning(Code.DUPLICATE_OBJECT, key, "", message)
                yield found.at(self._position(holder, ""))


def _by_position(finding: Diagnostic) -> tuple[str, int, str]:
    position = finding.position
    return (position.file, position.line, str(finding)) if position else ("", 0, str(finding))

"""Folders of YAML as the source of truth: reads files, hands their contents to FileSet, and follows changes.

What a content means is decided in istiod.watch.files; which files there are, in istiod.watch.tree. Here is the loop
only: learn of a change, read off the loop what is large, apply on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import watchfiles

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic, Position
from istiod import apart
from istiod.config.store import ConfigStore
from istiod.watch import files, tree
from istiod.watch.files import Change, FileSet, FileState
from istiod.watch.tree import Stamp

_STEP_MS: Final = 10
_DEBOUNCE_MS: Final = 50
_RESCAN_MS: Final = 5000  # what the kernel did not tell (a full queue, a link to elsewhere) is found this late
_RETRY_MS: Final = 1000  # the same, while a folder is missing
_WRITING: Final = 0.02  # seconds: a file written in place this recently may still be incomplete
_SHRINKING: Final = 0.1  # seconds: the same, where the new content lacks objects that were there
_PATIENCE: Final = 1.0  # seconds: a file that is written all the time is then read as it is
_MISSING: Final = 0.2  # seconds between looks for folders of which none exists
_SMALL: Final = 64 * 1024  # bytes that are parsed on the loop; more goes to a thread

Report = Callable[[tuple[Diagnostic, ...]], None]


async def watch(
    folders: Sequence[str],
    store: ConfigStore,
    report: Report,
    ready: Callable[[], None],
    positions: FileSet | None = None,
) -> None:
    """Keep ``store`` equal to the files in ``folders`` until cancelled.

    Args:
        folders: searched recursively for .yaml, .yml and .json; one that does not exist yet is waited for.
        store: told of objects and removals, on the loop's thread.
        report: given all current findings each time they change.
        ready: called once, after everything there is has been applied.
        positions: the caller's FileSet, where it wants to look up where a field stands (``FileSet.position``).
    """
    source = _Source(tuple(folders), store, report, FileSet() if positions is None else positions)
    started = False
    while True:
        present = tree.identities(folders)
        quiet = _RESCAN_MS if len(present) == len(folders) else _RETRY_MS
        async with contextlib.aclosing(_changes(list(present), quiet)) as changes:
            async for paths in changes:
                await source.follow(paths or folders)
                if not started:
                    ready()
                    started = True
                if tree.identities(folders) != present:
                    break


async def _changes(folders: Sequence[str], quiet: int) -> AsyncGenerator[frozenset[str]]:
    """Paths that changed. The first set, and one after each ``quiet`` ms, is empty: look everywhere."""
    if not folders:
        yield frozenset()
        await asyncio.sleep(_MISSING)
        return
    names = tree.absolute(folders)
    notices = watchfiles.awatch(
        *names,
        watch_filter=None,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=quiet,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    pending = asyncio.ensure_future(anext(notices))
    try:
        await asyncio.sleep(0)  # runs awatch up to its first wait: from here on the kernel keeps changes for us
        yield frozenset()
        while True:
            yield frozenset(tree.renamed(path, names) for _, path in await pending)
            pending = asyncio.ensure_future(anext(notices))
    finally:
        pending.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await pending
        await notices.aclose()


class _Source:
    """The files as last read, and who is told of them."""

    def __init__(self, folders: tuple[str, ...], store: ConfigStore, report: Report, known: FileSet) -> None:
        self._folders = folders
        self._store = store
        self._report = report
        self._files = known
        self._stamps: dict[str, Stamp] = {}
        self._told: tuple[Diagnostic, ...] = ()

    async def follow(self, paths: Iterable[str]) -> None:
        """Take in what changed at or below ``paths``."""
        roots = tree.roots(paths, self._folders)
        found = await asyncio.to_thread(tree.scan, roots)
        await self._load({path: stamp for path, stamp in found.items() if self._stamps.get(path) != stamp})
        # Removals last: what moves from one file to another, or is replaced under a new name, must never be missing.
        # Of all files that were ever read: after a fault this source is a new one, the files' states are not.
        for path in [known for known in self._files.paths() if known not in found and tree.below(known, roots)]:
            self._stamps.pop(path, None)
            self._apply(self._files.drop(path))
        self._tell()

    async def _load(self, changed: Mapping[str, Stamp]) -> None:
        """Read files, each when it looks complete."""
        deadline = time.monotonic() + _PATIENCE
        while changed:
            patient = time.monotonic() < deadline
            ripe = {path: stamp for path, stamp in changed.items() if not (patient and self._writing(path, stamp))}
            large = sum(stamp.size for stamp in ripe.values()) > _SMALL
            for state in await apart.beside(partial(self._read_all, list(ripe))) if large else self._read_all(ripe):
                stamp = ripe[state.path]
                if patient and self._shrinking(state, stamp):
                    continue
                self._stamps[state.path] = stamp
                self._apply(self._files.put(state), compared=large)
            changed = {path: stamp for path, stamp in changed.items() if self._stamps.get(path) != stamp}
            if changed:
                await asyncio.sleep(_WRITING)
                changed = await asyncio.to_thread(tree.scan, list(changed))

    def _read_all(self, paths: Iterable[str]) -> list[FileState]:
        return [_read(path, self._files.get(path)) for path in paths]

    def _writing(self, path: str, stamp: Stamp) -> bool:
        """Whether a file may be incomplete; one that was renamed into the place of another is not."""
        known = self._stamps.get(path)
        return stamp.age(time.time()) < _WRITING and (known is None or known.inode == stamp.inode)

    def _shrinking(self, state: FileState, stamp: Stamp) -> bool:
        """Whether a file written in place has lost objects so recently that the rest may be on its way."""
        known, before = self._stamps.get(state.path), self._files.get(state.path)
        if known is None or before is None or known.inode != stamp.inode:
            return False
        lost = {entry.key for entry in before.entries} - {entry.key for entry in state.entries}
        return bool(lost) and stamp.age(time.time()) < _SHRINKING

    def _apply(self, change: Change, *, compared: bool = False) -> None:
        for item in change.applied:
            self._store.apply(item, compared=compared)
        for key in change.removed:
            self._store.remove(key)

    def _tell(self) -> None:
        present = tree.identities(self._folders)
        missing = tuple(_missing(folder) for folder in self._folders if folder not in present)
        findings = (*missing, *self._files.diagnostics)
        if findings != self._told:
            self._told = findings
            self._report(findings)


def _missing(folder: str) -> Diagnostic:
    finding = diagnostic.warning(Code.UNREADABLE, None, "", "no such folder; it is waited for")
    return finding.at(Position(file=folder, line=1))


def _read(path: str, previous: FileState | None) -> FileState:
    try:
        content = tree.content(path, files.LARGEST)
    except OSError as error:
        return files.unreadable(path, Code.UNREADABLE, f"cannot be read: {error.strerror}", previous)
    return files.read(path, content, previous)

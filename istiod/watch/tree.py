"""Which files a folder holds now, and when each was written.

Names that start with a dot are skipped: the ``..data`` folders of ConfigMap volumes, which are reached through their
links, and what editors and atomic writers leave for a moment. Links are followed, each folder once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
_VOLUME: Final = ".."  # what names in a ConfigMap volume start with that a link leads to


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells two versions of a file apart without reading them."""

    inode: tuple[int, int]
    size: int
    modified_ns: int

    def age(self, now: float) -> float:
        """Seconds since the file was written; a time in the future counts as long ago (clocks differ)."""
        age = now - self.modified_ns / 1e9
        return age if age >= 0 else float("inf")


def identities(folders: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """The folders that exist, by device and inode: a folder that was replaced needs a new watch."""
    found = {}
    for folder in folders:
        try:
            info = Path(folder).stat()
        except OSError:
            continue
        found[folder] = (info.st_dev, info.st_ino)
    return found


def roots(paths: Iterable[str], folders: Iterable[str]) -> tuple[str, ...]:
    """Where to look for changed files after the kernel named ``paths``: files, or folders to search.

    A hidden path says nothing, unless it belongs to a ConfigMap volume: then its folder is searched.
    """
    tops = tuple(folders)
    return tuple(dict.fromkeys(root for path in paths if (root := _root(path, tops))))


def _root(path: str, folders: tuple[str, ...]) -> str | None:
    for folder in folders:
        if not below(path, (folder,)):
            continue
        parts = Path(path).relative_to(folder).parts
        for depth, part in enumerate(parts):
            if part.startswith(_VOLUME):
                return str(Path(folder, *parts[:depth]))
            if part.startswith("."):
                return None
        return path
    return None


def below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of ``tops`` or below one."""
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops)


def absolute(folders: Iterable[str]) -> Mapping[str, str]:
    """Absolute name -> the name that the user gave; the kernel reports absolute names."""
    return {str(Path(folder).absolute()): folder for folder in folders}


def renamed(path: str, names: Mapping[str, str]) -> str:
    """A path below one of ``names`` (absolute folder -> the name that the user gave it) by the user's name."""
    for absolute, given in names.items():
        if below(path, (absolute,)):
            return given.rstrip("/") + path[len(absolute.rstrip("/")) :]
    return path


def scan(tops: Iterable[str]) -> dict[str, Stamp]:
    """The files at or below each path, with their stamps; what vanishes meanwhile is left out."""
    found: dict[str, Stamp] = {}
    for top in tops:
        found.update(_scan(top))
    return found


def content(path: str, most: int) -> bytes:
    """The bytes of a file, at most one more than ``most``.

    Raises:
        OSError: the file cannot be opened or read.
    """
    with Path(path).open("rb") as file:
        return file.read(most + 1)


def _scan(top: str) -> Iterator[tuple[str, Stamp]]:
    seen: set[tuple[int, int]] = set()
    todo = [top]
    while todo:
        path = todo.pop()
        try:
            info = Path(path).stat()
        except OSError:
            continue
        identity = (info.st_dev, info.st_ino)
        if stat.S_ISREG(info.st_mode) and path.endswith(SUFFIXES):
            yield path, Stamp(identity, info.st_size, info.st_mtime_ns)
        elif stat.S_ISDIR(info.st_mode) and identity not in seen:
            seen.add(identity)
            todo.extend(_children(path))


def _children(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names only; twice as fast over thousands)
    except OSError:
        return []
    return [f"{folder.rstrip('/')}/{name}" for name in sorted(names, reverse=True) if not name.startswith(".")]

"""Records in a folder (``--stateDir``), a file each: for a control plane without Kubernetes, which is one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Final

from istiod.lastgood import record
from istiod.supervision import SettingsError, say

PERIOD: Final = 1.0
"""Seconds between two looks at what is to be written."""
_MOST_FILES: Final = 10_000
_ENDING: Final = ".record"


class FolderRecords:
    """A protocols.Records."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._items: dict[str, bytes] = {}
        self._problem = ""

    @property
    def items(self) -> Mapping[str, bytes]:
        """See Records."""
        return self._items

    async def load(self) -> None:
        """See Records. A file that cannot be read, or is too large for a record, is left alone.

        Raises:
            SettingsError: the folder cannot be made or read.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            found = sorted(each for each in self._path.iterdir() if each.suffix == _ENDING)[:_MOST_FILES]
        except OSError as error:
            raise SettingsError(f"--stateDir {self._path}: {error}") from error
        for each in found:
            try:
                with each.open("rb") as file:
                    raw = file.read(record.MOST_PACKED + 1)
            except OSError as error:
                say(f"istiod: {each} is left alone: {error}")
                continue
            self._items[each.stem] = raw

    async def run(self, due: Callable[[], Mapping[str, bytes | None]]) -> None:
        """See Records."""
        while True:
            for name, raw in due().items():
                self._write(name, raw)
            await asyncio.sleep(PERIOD)

    def _write(self, name: str, raw: bytes | None) -> None:
        try:
            path = self._path / f"{name}{_ENDING}"
            if raw is None:
                path.unlink(missing_ok=True)
                self._items.pop(name, None)
            else:
                _replace(path, raw)
                self._items[name] = raw
        except OSError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                say(f"istiod: what proxies refuse is not kept in {self._path}: {error}")
        else:
            self._problem = ""


def _replace(path: pathlib.Path, raw: bytes) -> None:
    """Whoever stops in between leaves the old file whole (mkstemp: mode 0600)."""
    descriptor, made = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
        pathlib.Path(made).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            pathlib.Path(made).unlink()
        raise

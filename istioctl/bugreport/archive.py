"""Pieces into an archive: several at a time, until the time is over, with a manifest of what is not in it and why."""

from __future__ import annotations

import concurrent.futures
import io
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from istioctl.bugreport.pieces import Piece
from istioctl.errors import CommandError

NAME: Final = "bug-report.tar.gz"
_ROOT: Final = "bug-report"
_MODE: Final = 0o600
MANIFEST: Final = "manifest.json"


@dataclass(slots=True)
class Manifest:
    """What came of the pieces."""

    held: dict[str, int] = field(default_factory=dict)
    """Path -> bytes."""
    missing: dict[str, str] = field(default_factory=dict)
    """Path -> why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many pieces are got at a time, and within how many seconds all."""

    concurrency: int
    seconds: float


class Archive:
    """A file that others of the machine may not read: whatever is left out, it tells much of a cluster."""

    def __init__(self, folder: str) -> None:
        """Begin one in a folder, or among the machine's temporary files.

        Raises:
            CommandError: nothing can be written there.
        """
        try:
            self._place = Path(tempfile.mkdtemp(prefix="bug-report-", dir=folder or None))
            self._file = tarfile.open(self._place / NAME, "w:gz")  # noqa: SIM115 (closed by finish or abandon)
        except OSError as error:
            raise CommandError(f"cannot write in {error.filename or folder}: {error.strerror}") from error
        (self._place / NAME).chmod(_MODE)

    def add(self, path: str, content: bytes) -> None:
        """One more file."""
        entry = tarfile.TarInfo(f"{_ROOT}/{path}")
        entry.size, entry.mode, entry.mtime = len(content), _MODE, int(time.time())
        self._file.addfile(entry, io.BytesIO(content))

    def finish(self, folder: Path) -> Path:
        """Close it, and put it where the user wants it, in the place of an older one.

        Raises:
            CommandError: it cannot be put there.
        """
        self._file.close()
        try:
            return Path(shutil.move(self._place / NAME, folder / NAME))
        except OSError as error:
            raise CommandError(f"cannot write {folder / NAME}: {error.strerror or error}") from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        shutil.rmtree(self._place, ignore_errors=True)


def gather(pieces: Sequence[Piece], bounds: Bounds, add: Callable[[str, bytes], None]) -> Manifest:
    """Get the pieces, and give each to ``add`` as it comes."""
    made = Manifest()
    pool = concurrent.futures.ThreadPoolExecutor(bounds.concurrency)
    running = {pool.submit(each.get): each.path for each in pieces}
    try:
        for done in concurrent.futures.as_completed(list(running), bounds.seconds):
            path = running.pop(done)
            try:
                content = done.result()
            except CommandError as error:
                made.missing[path] = str(error)
            except Exception as error:  # noqa: BLE001 (a bug in one piece must not cost the others; it is told)
                made.missing[path] = f"a fault of istioctl: {error!r}"
            else:
                add(path, content)
                made.held[path] = len(content)
    except TimeoutError:
        made.missing |= dict.fromkeys(running.values(), f"the time was over ({bounds.seconds:g} s)")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return made


def told(manifest: Manifest, facts: Mapping[str, Any]) -> bytes:
    """The manifest as a file of the archive."""
    held = [{"path": path, "bytes": size} for path, size in sorted(manifest.held.items())]
    missing = [{"path": path, "reason": reason} for path, reason in sorted(manifest.missing.items())]
    return json.dumps({**facts, "held": held, "missing": missing}, indent=1, ensure_ascii=False).encode() + b"\n"

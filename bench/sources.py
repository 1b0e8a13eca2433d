"""Where istiod reads the world: files (bench.folder), or a real API server (bench.apiserver)."""

from __future__ import annotations

import pathlib
from typing import Protocol

from bench.objects import Document
from bench.world import Size


class Source(Protocol):
    """One of them."""

    def fill(self, size: Size) -> None:
        """Write the whole world."""
        ...

    def put(self, document: Document) -> None:
        """Write an object; when this returns it is there."""
        ...

    def flags(self, home: pathlib.Path) -> tuple[str, ...]:
        """What tells istiod to read it, with the keys of ``home`` (bench.identities)."""
        ...

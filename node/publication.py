"""What the node tells the control plane: one file per object, as an API server would give it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping

from node.objects import Raw, key_of


def file_name(raw: Mapping[str, object]) -> str:
    """The name of an object's file: kind, namespace and name; the group only where kinds could be confused."""
    key = key_of(raw)
    parts = [key.kind, key.namespace, key.name] if key.namespace else [key.kind, key.name]
    return ".".join(parts) + ".yaml"


def replace(path: pathlib.Path, text: str) -> None:
    """Write a file so that readers see the old or the new one whole."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


class Publication:
    """The runtime folder. Only what changed is written."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Write into this folder, which is ours and empty."""
        self._folder = folder
        self._known: dict[str, str] = {}

    def write(self, objects: Iterable[Raw]) -> int:
        """Make the folder hold exactly these objects; how many files changed. JSON, which is YAML too."""
        wanted = {file_name(raw): json.dumps(raw, indent=1, default=str) for raw in objects}
        changed = 0
        for name, text in wanted.items():
            if self._known.get(name) != text:
                replace(self._folder / name, text)
                changed += 1
        for name in set(self._known) - set(wanted):
            (self._folder / name).unlink(missing_ok=True)
            changed += 1
        self._known = wanted
        return changed

"""The objects a mesh runs: what was applied, by name, split into what the node acts on and what goes to istiod.

What both act on is in both.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic, Position
from crds.key import ConfigKey
from crds.parse import DEFAULT_NAMESPACE
from node import objects, publication
from node.objects import Document, Raw

Stamp = tuple[tuple[str, int, int, int], ...]
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """The YAML files that a path means: itself, or those of a folder.

    Raises:
        FileNotFoundError: there is no such path.
    """
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and not p.name.startswith("."))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return [path]


def stamp_of(path: pathlib.Path) -> Stamp:
    """What changes when one of the files of a path does.

    Raises:
        OSError: the path is not there.
    """
    stats = [(str(file), file.stat()) for file in files_of(path)]
    return tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


class Store:
    """Objects with ``kubectl apply``'s meaning: the last one of a name counts."""

    def __init__(self, config: pathlib.Path) -> None:
        """Keep configuration for istiod as one file per object in ``config``."""
        self._config = config
        self.objects: dict[ConfigKey, Raw] = {}

    def apply(self, documents: Iterable[Document]) -> None:
        """Take these objects in, in place of any with their names."""
        for document in documents:
            key = objects.key_of(document.raw)
            if objects.is_for_node(key) or objects.is_for_both(key):
                self.objects[key] = document.raw
            if not objects.is_for_node(key):
                publication.replace(self._config / publication.file_name(document.raw), _text(document))

    def delete(self, key: ConfigKey) -> bool:
        """Forget an object; False if there was none."""
        if objects.is_for_node(key):
            return self.objects.pop(key, None) is not None
        self.objects.pop(key, None)
        path = self._config / publication.file_name(_named(key))
        there = path.exists()
        path.unlink(missing_ok=True)
        return there


def _named(key: ConfigKey) -> Raw:
    """An object of nothing but its name."""
    version = f"{key.group}/v1" if key.group else "v1"
    return {"apiVersion": version, "kind": key.kind, "metadata": {"namespace": key.namespace, "name": key.name}}


def _text(document: Document) -> str:
    """The object's text, at the line where its file has it, so that findings about it name that line.

    An object out of a List, or with a namespace that neither its text nor istiod's default says, is written anew.
    """
    namespace = objects.key_of(document.raw).namespace
    said = namespace in {"", DEFAULT_NAMESPACE} or f"namespace: {namespace}" in document.chunk.text
    if said and not document.place and not document.file.endswith(".json"):  # JSON may have tabs, YAML may not
        return "\n" * document.chunk.line + document.chunk.text + "\n"
    return json.dumps(document.raw, indent=1, default=str) + "\n"


def load(paths: Iterable[pathlib.Path], namespace: str) -> tuple[list[Document], list[Diagnostic]]:
    """The objects of files and folders, and what is wrong with them.

    Raises:
        OSError: a path is not there or cannot be read.
    """
    documents: list[Document] = []
    found: list[Diagnostic] = []
    for path in paths:
        for file in files_of(path):
            try:
                text = file.read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                message = f"no UTF-8: {error.reason} at byte {error.start}"
                finding = diagnostic.error(Code.UNREADABLE, None, "", message)
                found.append(finding.at(Position(file=str(file), line=1)))
                continue
            more, wrong = objects.read(text, str(file), namespace)
            documents += more
            found += wrong
    return documents, found

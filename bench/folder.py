"""The world as files: one per object that may change, pods by namespace. Changed files are renamed into place."""

from __future__ import annotations

import pathlib
from collections import defaultdict
from typing import Final

import yaml

from bench import world
from bench.objects import Document
from bench.world import Size

_Dumper: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Folder:
    """A folder that istiod watches."""

    def __init__(self, path: pathlib.Path) -> None:
        """Make it."""
        self.path = path
        path.mkdir()

    def fill(self, size: Size) -> None:
        """Write the whole world."""
        pods: dict[str, list[Document]] = defaultdict(list)
        for document in world.documents(size):
            if document["kind"] == "Pod":
                pods[document["metadata"]["namespace"]].append(document)
            else:
                self.put(document)
        for namespace, together in pods.items():
            (self.path / f"pods-{namespace}.yaml").write_text(yaml.dump_all(together, Dumper=_Dumper))

    def put(self, document: Document) -> None:
        """Write an object, atomically."""
        target = self._file(document)
        beside = target.with_name("." + target.name)
        beside.write_text(yaml.dump(document, Dumper=_Dumper))
        beside.replace(target)

    def flags(self, home: pathlib.Path) -> tuple[str, ...]:
        """What tells istiod to read it, with the keys of ``home`` (bench.identities)."""
        return ("--configDir", str(self.path), "--caDir", str(home / "ca"), "--tokenKey", str(home / "token.pem"))

    def delete(self, document: Document) -> None:
        """Remove an object."""
        self._file(document).unlink()

    def _file(self, document: Document) -> pathlib.Path:
        return self.path / f"{document['kind'].lower()}-{document['metadata']['name']}.yaml"

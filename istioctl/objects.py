"""The objects that commands describe: of a cluster, of istiod's page, or out of files. One that cannot be read is said.

Which objects matter and what they mean is the command's.
"""

from __future__ import annotations

import json
import pathlib
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from crds import core, lines, parse
from crds.destination_rule import DestinationRule
from crds.gateway import Gateway
from crds.key import NETWORKING, SECURITY
from crds.meta import Object
from crds.peer_authentication import PeerAuthentication
from crds.request_authentication import RequestAuthentication
from crds.text import UnreadableError
from crds.virtual_service import VirtualService
from istioctl import output, texts
from istioctl.errors import CommandError
from istiod.watch import tree

T = TypeVar("T", bound=Object)
Json = Mapping[str, Any]
Labels = Mapping[str, str]

CONFIG_PAGE: Final = "/debug/configz"
_CORE: Final = "/api/v1"
_PATHS: Final[Mapping[type[Object], tuple[str, str]]] = {
    core.Pod: (_CORE, "pods"),
    core.Service: (_CORE, "services"),
    DestinationRule: (f"/apis/{NETWORKING}/v1", "destinationrules"),
    Gateway: (f"/apis/{NETWORKING}/v1", "gateways"),
    VirtualService: (f"/apis/{NETWORKING}/v1", "virtualservices"),
    PeerAuthentication: (f"/apis/{SECURITY}/v1", "peerauthentications"),
    RequestAuthentication: (f"/apis/{SECURITY}/v1", "requestauthentications"),
}


class Objects(Protocol):
    """Where objects are."""

    def get(self, kind: type[T], namespace: str, name: str) -> T | None:
        """One object; None where there is none of that name.

        Raises:
            CommandError: it cannot be asked for.
        """
        ...

    def list(self, kind: type[T], namespace: str = "", labels: Labels | None = None) -> list[T]:
        """Those of a namespace (all where it is empty) that have the labels, by namespace and name.

        Raises:
            CommandError: they cannot be listed.
        """
        ...


class Reader(Protocol):
    """What is asked of a cluster (``istioctl.cluster.Cluster``)."""

    def read(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Json | None:
        """What the API server has at a path; None where there is nothing."""
        ...


@dataclass(frozen=True, slots=True)
class InCluster:
    """The objects of a cluster, asked for one by one."""

    cluster: Reader

    def get(self, kind: type[T], namespace: str, name: str) -> T | None:
        """One object of the API server."""
        found = self.cluster.read(f"{_folder(kind, namespace)}/{urllib.parse.quote(name, safe='')}")
        return next(_read(kind, [found]), None) if found else None

    def list(self, kind: type[T], namespace: str = "", labels: Labels | None = None) -> list[T]:
        """Those that the API server has."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        found = self.cluster.read(_folder(kind, namespace), [("labelSelector", selector)] if selector else [])
        if found is None:
            return []
        base = {"apiVersion": found.get("apiVersion"), "kind": str(found.get("kind", "")).removesuffix("List")}
        return _sorted(_read(kind, ({**base, **each} for each in found.get("items") or ())))


class Known:
    """Objects that are at hand: of files, or of istiod's page."""

    def __init__(self, documents: Iterable[Json]) -> None:
        """Read them; what is not among the kinds that commands look at is passed over."""
        wanted = {kind.__name__ for kind in _PATHS}
        self._objects = [*_read(Object, (each for each in documents if each.get("kind") in wanted))]

    def get(self, kind: type[T], namespace: str, name: str) -> T | None:
        """One object; of several of the same name the last."""
        found = [each for each in self.list(kind, namespace) if each.metadata.name == name]
        return found[-1] if found else None

    def list(self, kind: type[T], namespace: str = "", labels: Labels | None = None) -> list[T]:
        """Those that are known."""
        wanted = (labels or {}).items()
        return _sorted(
            each
            for each in self._objects
            if isinstance(each, kind)
            and namespace in ("", each.metadata.namespace)
            and wanted <= each.metadata.labels.items()
        )


def of_files(paths: Iterable[str]) -> Known:
    """The objects of files and folders: YAML, JSON, or istiod's page /debug/configz as it was saved.

    Raises:
        CommandError: a file cannot be read.
    """
    return Known(each for path in paths for file in _files(path) for each in _documents(file))


def of_page(name: str, text: bytes) -> Known:
    """What istiod's page /debug/configz says; ``name`` is the istiod's.

    Raises:
        CommandError: it is something else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{name}: {CONFIG_PAGE} is no JSON: {error}") from error
    return Known(_each(found))


def _folder(kind: type[Object], namespace: str) -> str:
    prefix, plural = _PATHS[kind]
    return (
        f"{prefix}/namespaces/{urllib.parse.quote(namespace, safe='')}/{plural}" if namespace else f"{prefix}/{plural}"
    )


def _read(kind: type[T], documents: Iterable[Json]) -> Iterator[T]:
    for each in documents:
        found = parse.parse(each)
        if isinstance(found.object, kind):
            yield found.object
        else:
            reason = "; ".join(map(str, found.diagnostics)) or f"is no {kind.__name__}"
            output.complain(f"{found.key or 'an object'} cannot be read and is left out: {reason}", "Warning")


def _sorted(objects: Iterable[T]) -> list[T]:
    return sorted(objects, key=lambda each: (each.metadata.namespace, each.metadata.name))


def _files(path: str) -> list[pathlib.Path]:
    place = pathlib.Path(path)
    if not place.is_dir():
        return [place]
    return sorted(each for each in place.rglob("*") if each.is_file() and each.suffix in tree.SUFFIXES)


def _documents(file: pathlib.Path) -> Iterator[Json]:
    for chunk in lines.split(file.name, texts.read(str(file))):
        try:
            document = lines.load(file.name, chunk)
        except UnreadableError as error:
            raise CommandError(f"{file}:{chunk.line + error.line + 1}: {error}") from error
        yield from _each(document)


def _each(document: Any) -> Iterator[Json]:
    """The objects of a document, of a List, or of a plain list."""
    for one in document if isinstance(document, list) else [document]:
        yield from (each for _, each in lines.unroll(one) if isinstance(each, Mapping))

"""The mesh of some files, and what each of its workloads would get from istiod."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple, Protocol

from crds.diagnostic import Diagnostic, Position, Severity
from crds.key import ConfigKey
from istioctl.errors import CommandError
from istioctl.offline import imagined
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigSnapshot, ConfigStore
from istiod.envoy.compiler import Compiler
from istiod.explain import workloads
from istiod.mesh import context as mesh
from istiod.mesh.context import MeshContext
from istiod.mesh.workloads import PodWorkload
from istiod.watch import files, tree
from istiod.watch.files import FileSet

_STDIN: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One pod, real or imagined. ``proxied``: an Envoy stands beside or in it; ``router``: it is a gateway."""

    pod: PodWorkload
    proxied: bool
    router: bool

    @property
    def name(self) -> str:
        """POD.NAMESPACE, as istiod calls its proxy."""
        return f"{self.pod.name}.{self.pod.namespace}"

    @property
    def address(self) -> str:
        """The pod's own address."""
        return self.pod.addresses[0]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A mesh out of files. ``compiler`` may be shared by worlds that are compared."""

    snapshot: ConfigSnapshot
    files: Sources
    context: MeshContext
    compiler: Compiler = field(default_factory=Compiler)

    def workloads(self) -> list[Workload]:
        """Every pod with an address, by name."""
        pods = sorted(self.context.backends.pods.items())
        return [self._workload(pod) for _, pod in pods if pod.addresses]

    def _workload(self, pod: PodWorkload) -> Workload:
        router = workloads.is_router(self.context, pod)
        return Workload(pod=pod, proxied=pod.tls or router, router=router)

    def at(self, address: str) -> Workload | None:
        """The pod of an address."""
        pod = self.context.backends.at(address)
        return None if pod is None else self._workload(pod)

    def resources(self, one: Workload) -> ResourceSet:
        """What istiod would send to a workload's Envoy."""
        proxy = self.proxy(one)
        context = self.context
        return self.compiler.compile(mesh.scope(context, proxy), context.endpoints, mesh.view(context, proxy))

    def proxy(self, one: Workload) -> Proxy:
        """A workload's Envoy, as it would connect."""
        return workloads.proxy(self.context, one.pod)

    def position(self, key: ConfigKey, path: str) -> Position | None:
        """Where a field of an object stands."""
        return self.files.position(key, path)

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """What is wrong with the objects, with places."""
        found = []
        for one in self.context.diagnostics:
            place = self.position(one.key, one.field) if one.key is not None and one.position is None else None
            found.append(one.at(place) if place is not None else one)
        return (*self.files.diagnostics, *found)


def read(paths: Sequence[str], compiler: Compiler | None = None) -> World:
    """The mesh of files and folders.

    Raises:
        CommandError: one cannot be read, or no file holds an object.
    """
    return of_contents(dict(contents(paths)), compiler)


def pair(one: Mapping[str, bytes], other: Mapping[str, bytes], compiler: Compiler) -> tuple[World, World]:
    """The meshes of two sets of files. What is imagined for one is there in both.

    Raises:
        CommandError: one holds no object.
    """
    (old, before), (new, after) = _read(one), _read(other)
    return _compared(_Part(before, old, one), _Part(after, new, other), compiler)


def changed(
    before: Mapping[str, bytes], new: Mapping[str, bytes], gone: Mapping[str, bytes], compiler: Compiler
) -> tuple[World, World]:
    """The mesh of some files, and that after ``kubectl apply`` of others, and ``kubectl delete`` of others again.

    Raises:
        CommandError: no file holds an object.
    """
    (above, store), (below, old) = _read(new), _read(before)
    replaced = {*store.keys(), *_read(gone)[1].keys()}
    for item in old.snapshot():
        if item.key not in replaced:
            store.apply(item)
    after = _Part(store, _Both(above, below, replaced), {**before, **new})
    return _compared(_Part(old, below, before), after, compiler)


class _Part(NamedTuple):
    """What a mesh is made of."""

    store: ConfigStore
    found: Sources
    texts: Mapping[str, bytes]


def _compared(one: _Part, other: _Part, compiler: Compiler) -> tuple[World, World]:
    old, new = one.store.snapshot(), other.store.snapshot()  # before anything is imagined in them
    return _world(*one, compiler, new), _world(*other, compiler, old)


def of_contents(texts: Mapping[str, bytes], compiler: Compiler | None = None, *, empty: bool = False) -> World:
    """The mesh of files by name, in the order of their names. ``empty``: it may hold no object.

    Raises:
        CommandError: no file holds an object.
    """
    found, store = _read(texts)
    return _world(store, found, texts, compiler, empty=empty)


def _read(texts: Mapping[str, bytes]) -> tuple[FileSet, ConfigStore]:
    found, store = FileSet(), ConfigStore()
    for name in sorted(texts):
        for item in found.put(files.read(name, texts[name], None)).applied:
            store.apply(item)
    return found, store


class Sources(Protocol):
    """Where objects stand, and what is wrong with the files."""

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings about the files."""
        ...

    def position(self, key: ConfigKey, field: str = "") -> Position | None:
        """Where a field of an object stands; None where no file holds the object."""
        ...


class _Both:
    """Files over others: of objects that both hold, those above count."""

    def __init__(self, above: FileSet, below: FileSet, replaced: set[ConfigKey]) -> None:
        self._above, self._below, self._replaced = above, below, replaced

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """See Sources."""
        kept = (one for one in self._below.diagnostics if one.key not in self._replaced)
        return (*self._above.diagnostics, *kept)

    def position(self, key: ConfigKey, field: str = "") -> Position | None:
        """See Sources."""
        return (self._above if key in self._replaced else self._below).position(key, field)


def _world(
    store: ConfigStore,
    found: Sources,
    texts: Mapping[str, bytes],
    compiler: Compiler | None,
    beside: ConfigSnapshot | None = None,
    *,
    empty: bool = False,
) -> World:
    snapshot = store.snapshot()
    if not empty and not any(True for _ in snapshot):
        named = ", ".join(sorted(texts)) or "what was named"
        wrong = [str(each) for each in found.diagnostics]
        said = f"no Kubernetes object that can be used in {named}" if wrong else f"no Kubernetes object in {named}"
        raise CommandError("\n".join([said, *wrong]))
    for item in imagined.complete(snapshot, beside):
        store.apply(item)
    snapshot = store.snapshot()
    return World(snapshot, found, mesh.build(snapshot), compiler or Compiler())


def contents(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The files that some paths name, folders with all that is in them; ``-`` is the standard input.

    Raises:
        CommandError: one does not exist, or cannot be read.
    """
    for path in paths:
        try:
            yield from ((path, sys.stdin.buffer.read()),) if path == _STDIN else _content(path)
        except OSError as error:
            raise CommandError(f"cannot read {error.filename or path}: {error.strerror}") from error


def _content(path: str) -> Iterator[tuple[str, bytes]]:
    top = pathlib.Path(path)
    if not path or not top.exists():
        raise CommandError(f"there is no {path or repr(path)}")
    found = [top]
    if top.is_dir():
        found = [each for each in sorted(top.rglob("*")) if each.is_file() and each.suffix in tree.SUFFIXES]
        if not found:
            raise CommandError(f"no Kubernetes object in {path}: no file there ends with {', '.join(tree.SUFFIXES)}")
    yield from ((str(each), each.read_bytes()) for each in found)


def errors(world: World) -> list[Diagnostic]:
    """The findings that make an object, or a part of one, count for nothing."""
    return [one for one in world.findings if one.severity is Severity.ERROR]


class Names:
    """Workloads by what users call them."""

    def __init__(self, world: World) -> None:
        self._world = world

    @cached_property
    def every(self) -> list[Workload]:
        """All of them."""
        return self._world.workloads()

    def find(self, said: str, namespace: str) -> Workload:
        """The workload of ``[TYPE/]NAME[.NAMESPACE]``: of a workload, a pod, a label ``app`` or ``istio``.

        Raises:
            CommandError: there is none.
        """
        pod = workloads.find([one.pod for one in self.every], said, namespace)
        for one in self.every:
            if one.pod is pod:
                return one
        known = sorted({f"{one.pod.workload.name}.{one.pod.namespace}" for one in self.every})
        raise CommandError(f"there is no workload {said!r}; there are {', '.join(known[:12]) or 'none'}")

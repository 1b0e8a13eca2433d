"""The objects that are analysed: documents with their names, where they stand, and indexes by kind and name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from crds import lines, path, registry
from crds.parse import Parsed, parse
from crds.text import Chunk
from istiod.analysis import fields, kinds
from istiod.analysis.fields import Record
from istiod.analysis.kinds import Kind

ROOT: Final = "istio-system"
Steps = tuple[str | int, ...]
"""The way to a field: names of fields and numbers of items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an object stands in a file: its document, and the path to it where that is a List."""

    chunk: Chunk
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One object. ``namespace`` is "" where it has none; ``file`` is "" where it comes from a cluster."""

    kind: Kind
    namespace: str
    name: str
    document: Record
    file: str = ""
    place: Place | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """``namespace/name``, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def spec(self) -> Record:
        """What the object wants."""
        return fields.record(self.document, "spec")

    @property
    def named(self) -> Record:
        """The document with the namespace that the object is in, also where the file leaves it out."""
        if not self.namespace or fields.text(self.document, "metadata", "namespace"):
            return self.document
        return {**self.document, "metadata": {**self.document["metadata"], "namespace": self.namespace}}

    @property
    def line(self) -> int:
        """The first line of its document, from 1; 0 without a file."""
        if self.place is None:
            return 0
        if self.place.prefix:
            return lines.find(self.place.chunk).get(self.place.prefix, self.place.chunk.line + 1)
        return first_line(self.place.chunk)

    def line_of(self, at: Steps) -> int:
        """The line of a field that is a plain value; 0 where the file has none there."""
        value = fields.dig(self.document, *at)
        if self.place is None or value is None or isinstance(value, dict | list):
            return 0
        field, prefix = path.join(at), self.place.prefix
        return lines.find(self.place.chunk).get(f"{prefix}.{field}" if prefix else field, 0)

    def nearest(self, at: str) -> int:
        """The line of a field, or of its nearest parent that is in the file; 0 without a file or field."""
        if self.place is None or not at:
            return 0
        return lines.nearest(lines.find(self.place.chunk), self.place.prefix, at)

    def __str__(self) -> str:
        return f"{self.kind.name} {self.full_name}"


def first_line(chunk: Chunk) -> int:
    """The line after the marker that begins a document, with the comments that stand before its fields."""
    return chunk.line + (2 if chunk.text.startswith("---") else 1)


def resource(
    document: Any, *, default_namespace: str = "", file: str = "", place: Place | None = None
) -> Resource | None:
    """The object of a document; None where it has no kind or name.

    A namespaced object without a namespace is in the default one, if that is given.
    """
    version, kind = fields.text(document, "apiVersion"), fields.text(document, "kind")
    name = fields.text(document, "metadata", "name")
    if not (version and kind and name):
        return None
    found = Kind(version.rpartition("/")[0], kind)
    namespace = fields.text(document, "metadata", "namespace")
    if found in kinds.CLUSTER_SCOPED:
        namespace = ""
    elif not namespace:
        namespace = default_namespace
    return Resource(
        kind=found,
        namespace=namespace,
        name=name,
        document=document,
        file=file,
        place=place,
        labels=fields.labels(document, "metadata", "labels"),
        annotations=fields.labels(document, "metadata", "annotations"),
    )


def template(workload: Resource) -> Resource | None:
    """The pod that a workload will have; None where the object makes no pods."""
    if workload.kind not in kinds.WORKLOADS:
        return None
    inner = ("jobTemplate", "spec", "template") if workload.kind == kinds.CRON_JOB else ("template",)
    pod = fields.record(workload.spec, *inner)
    return replace(
        workload,
        kind=kinds.POD,
        document={"metadata": fields.record(pod, "metadata"), "spec": fields.record(pod, "spec")},
        labels=fields.labels(pod, "metadata", "labels"),
        annotations=fields.labels(pod, "metadata", "annotations"),
    )


class Collection:
    """All objects of an analysis, by kind and name; of two with one name the first counts."""

    def __init__(
        self,
        found: Iterable[Resource],
        *,
        templates: Iterable[Resource] = (),
        mesh: Record = fields.NOTHING,
        networks: Record = fields.NOTHING,
        resolves: Callable[[str], bool] = lambda _: True,
        now: datetime | None = None,
    ) -> None:
        """Index them.

        Args:
            found: the objects, those that hide others of the same name first.
            templates: pods that workloads of files will have: selectors find them, and no analyzer judges them.
            mesh: the mesh configuration, as ``--meshConfigFile`` or the ConfigMap has it.
            networks: the mesh networks.
            now: the time that certificates have to be valid at; None lets any time do.
            resolves: whether DNS knows a host; asked of webhooks only.
        """
        self.mesh = mesh
        self.networks = networks
        self.resolves = resolves
        self.now = now
        self._templates = tuple(templates)
        self._parsed: dict[Resource, Parsed] = {}
        self._by_kind: dict[Kind, dict[tuple[str, str], Resource]] = {}
        self._ordered: dict[Kind, list[Resource]] = {}
        self._spaces: dict[Kind, Mapping[str, list[Resource]]] = {}
        for each in found:
            self._by_kind.setdefault(each.kind, {}).setdefault((each.namespace, each.name), each)

    def of(self, kind: Kind) -> list[Resource]:
        """All of a kind, in an order that no order of files changes."""
        if kind not in self._ordered:
            found = self._by_kind.get(kind, {})
            self._ordered[kind] = [found[name] for name in sorted(found)]
        return self._ordered[kind]

    def by_namespace(self, kind: Kind) -> Mapping[str, list[Resource]]:
        """All of a kind by namespace, each in the same order."""
        if kind not in self._spaces:
            found: dict[str, list[Resource]] = {}
            for each in self.of(kind):
                found.setdefault(each.namespace, []).append(each)
            self._spaces[kind] = found
        return self._spaces[kind]

    def find(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """The object of that name."""
        return self._by_kind.get(kind, {}).get((namespace, name))

    def parsed(self, resource: Resource) -> Parsed:
        """What reading an object by itself gives; nothing for kinds that have no model. Each is read once."""
        if resource not in self._parsed:
            info = registry.KINDS.get((resource.kind.group, resource.kind.name))
            has_model = info is not None and info.model is not None
            self._parsed[resource] = parse(resource.named) if has_model else Parsed()
        return self._parsed[resource]

    def __iter__(self) -> Iterator[Resource]:
        for some in self._by_kind.values():
            yield from some.values()

    @property
    def root_namespace(self) -> str:
        """The namespace whose policies hold for the whole mesh."""
        return fields.text(self.mesh, "rootNamespace") or ROOT

    @property
    def domain(self) -> str:
        """What follows ``svc.`` in the names of Services."""
        return fields.text(self.mesh, "clusterDomain") or "cluster.local"

    @cached_property
    def _selectable(self) -> list[Resource]:
        return [*self.of(kinds.POD), *self._templates]

    @cached_property
    def pods_by_namespace(self) -> Mapping[str, list[Resource]]:
        """Pods of each namespace."""
        found: dict[str, list[Resource]] = {}
        for each in self._selectable:
            found.setdefault(each.namespace, []).append(each)
        return found

    @cached_property
    def pods_by_label(self) -> Mapping[tuple[str, str], list[Resource]]:
        """Pods by each of their labels, so that a selector need not look at all of them."""
        found: dict[tuple[str, str], list[Resource]] = {}
        for each in self._selectable:
            for label in each.labels.items():
                found.setdefault(label, []).append(each)
        return found

    def pods(self, selector: Mapping[str, str], namespace: str | None = None) -> list[Resource]:
        """The pods that a selector means; all of them where it is empty."""
        if selector:
            candidates = min((self.pods_by_label.get(each, []) for each in selector.items()), key=len)
        elif namespace is None:
            return self._selectable
        else:
            return self.pods_by_namespace.get(namespace, [])
        wanted = selector.items()
        return [each for each in candidates if each.labels.items() >= wanted and namespace in (None, each.namespace)]

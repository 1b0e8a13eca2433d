"""Text of files to resources, without I/O: what cannot be read is a problem beside them, and hides nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crds import lines, registry
from crds.text import UnreadableError
from istiod.analysis.resources import Place, Resource, resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The objects of files, and what of them is no Kubernetes object."""

    resources: tuple[Resource, ...]
    problems: tuple[str, ...]


def read(files: Iterable[tuple[str, str]], default_namespace: str = "") -> Read:
    """The objects of (name, content) pairs."""
    resources: list[Resource] = []
    problems: list[str] = []
    for name, content in files:
        for found in _of_file(name, content, default_namespace):
            if isinstance(found, Resource):
                resources.append(found)
            else:
                problems.append(found)
    return Read(resources=tuple(resources), problems=tuple(problems))


def _of_file(name: str, content: str, default_namespace: str) -> Iterator[Resource | str]:
    for chunk in lines.split(name, content):
        try:
            document = lines.load(name, chunk)
        except UnreadableError as problem:
            yield f"{name}:{chunk.line + problem.line + 1}: {problem}"
            continue
        for prefix, item in lines.unroll(document) if document is not None else ():
            place = Place(chunk=chunk, prefix=prefix)
            found = resource(item, default_namespace=default_namespace, file=name, place=place)
            if reason := _problem(found):
                yield f"{name}:{lines.find(chunk).get(prefix, chunk.line + 1)}: {reason}"
            elif found is not None:
                yield found


def _problem(found: Resource | None) -> str:
    """Why a document is no object that anybody would look at: a kind of Istio's that there is not is nobody's."""
    if found is None:
        return "no Kubernetes object: it has no apiVersion, kind or metadata.name"
    group, kind = found.kind.group, found.kind.name
    if registry.effect(group, kind) is not None:
        return ""
    meant = registry.near(group, kind)
    if not (meant or group.endswith(registry.ISTIO)):
        return ""
    return f"{kind} of group {group} is not known here" + (f"; did you mean {meant}?" if meant else "")

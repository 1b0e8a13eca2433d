"""What a case is, and which fields it shows: those that its objects say, less those that only stand beside."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from crds.meta import Model
from tests.behaviour.rig import Rig
from tests.generated.test_unhonoured import KINDS

Check = Callable[[Rig], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Objects, and what must hold of traffic while they are there.

    ``beside``: patterns of fields that the objects say and the check does not need.
    """

    name: str
    objects: str
    check: Check
    beside: tuple[str, ...] = ()


class Cases(list[Case]):
    """Cases of one kind of object. Calling it registers the function below, whose name is the case's."""

    def __call__(self, objects: str, *beside: str) -> Callable[[Check], Check]:
        def register(check: Check) -> Check:
            self.append(Case(name=check.__name__, objects=objects, check=check, beside=beside))
            return check

        return register


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A field that an object says: its kind and path in the schema, and the way to it in the document."""

    kind: str
    path: str
    way: tuple[str | int, ...]

    @property
    def folded(self) -> str:
        """Kind and path, where the same settings may stand in several places the first of them."""
        return fold(f"{self.kind} {self.path}")


_FOLDS = (
    (r"^DestinationRule spec\.subsets\[\]\.trafficPolicy\.", "DestinationRule spec.trafficPolicy."),
    (
        r"^DestinationRule spec\.trafficPolicy\.portLevelSettings\[\]\.(load\w+|conn\w+|outlier\w+|tls)\.",
        r"DestinationRule spec.trafficPolicy.\1.",
    ),
    (r"^MeshConfig defaultTrafficPolicy\.(conn\w+|outlier\w+)\.", r"DestinationRule spec.trafficPolicy.\1."),
    (r"^Sidecar spec\.ingress\[\]\.connectionPool\.", "Sidecar spec.inboundConnectionPool."),
)


def fold(field: str) -> str:
    """A field's name, where settings that are the same type in several places count as one."""
    for pattern, replacement in _FOLDS:
        field = re.sub(pattern, replacement, field)
    return field


def said(document: Mapping[str, Any]) -> Iterator[Said]:
    """The leaves that a document says, of the kinds that cases are about."""
    kind = str(document["kind"])
    if kind == "MeshConfig":
        yield from _said(KINDS[kind], document.get("spec") or {}, kind, "", ("spec",))
    elif kind in KINDS:
        yield from _said(KINDS[kind], {"spec": document.get("spec") or {}}, kind, "", ())


def _said(
    model: type[Model], part: Mapping[str, Any], kind: str, path: str, way: tuple[str | int, ...]
) -> Iterator[Said]:
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    for name, value in part.items():
        if name not in known:
            continue
        own = f"{path}.{name}" if path else name
        yield from _below(known[name].annotation, value, kind, own, (*way, name))


def _below(annotation: object, value: Any, kind: str, path: str, way: tuple[str | int, ...]) -> Iterator[Said]:
    inner, several = model_of(annotation)
    if inner is None or value in ({}, []):
        yield Said(kind=kind, path=path, way=way)
    elif several:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if item == {}:
                yield Said(kind=kind, path=path, way=(*way, key))
            else:
                yield from _said(inner, item, kind, f"{path}[]", (*way, key))
    elif isinstance(value, dict):
        yield from _said(inner, value, kind, path, way)


def model_of(annotation: object) -> tuple[type[Model] | None, bool]:
    """The model inside of an annotation, and whether there may be several."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation, False
    several = get_origin(annotation) in (tuple, Mapping)
    inside = (model_of(argument) for argument in get_args(annotation))
    return next(((model, several or deep) for model, deep in inside if model), (None, False))


def shown(case: Case, documents: list[dict[str, Any]]) -> list[Said]:
    """The fields that a case shows."""
    return [
        one
        for document in documents
        for one in said(document)
        if not any(re.fullmatch(pattern, f"{one.kind} {one.path}") for pattern in case.beside)
    ]


def without(document: dict[str, Any], way: tuple[str | int, ...]) -> dict[str, Any]:
    """The document less one field; what holds nothing then goes, too."""
    changed: dict[str, Any] = _less(document, way)
    return changed


def _less(part: Any, way: tuple[str | int, ...]) -> Any:
    first, *rest = way
    copied = dict(part) if isinstance(part, dict) else dict(enumerate(part))
    if not rest:
        del copied[first]
    else:
        copied[first] = _less(part[first], tuple(rest))
        if copied[first] in ({}, []):
            del copied[first]
    return copied if isinstance(part, dict) else list(copied.values())

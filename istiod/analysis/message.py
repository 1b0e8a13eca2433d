"""One finding of an analyzer, and how it is written (Istio: ``pkg/config/analysis/diag``)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from istiod.analysis.resources import Resource, Steps

DOCUMENTATION: Final = "https://istio.io/latest/docs/reference/config/analysis/"
_ISTIO: Final = "IST"
_VERB: Final = re.compile(r"%[vsqdt]")


class Level(IntEnum):
    """How bad a finding is; the smaller, the worse."""

    ERROR = 0
    WARNING = 1
    INFO = 2

    def __str__(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageType:
    """A row of the catalogue: a stable code, and a text in which ``%s``, ``%q``, ``%v`` and ``%d`` are filled in."""

    code: str
    level: Level
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A finding about a resource; ``line`` is the field's line in the resource's file, 0 where it has none."""

    type: MessageType
    resource: Resource | None
    text: str
    line: int = 0

    @property
    def origin(self) -> str:
        """The object, as ``Kind namespace/name``."""
        return str(self.resource) if self.resource is not None else ""

    @property
    def reference(self) -> str:
        """``file:line``; "" for an object of a cluster."""
        if self.resource is None or not self.resource.file:
            return ""
        return f"{self.resource.file}:{self.line or self.resource.line}"

    @property
    def documentation(self) -> str:
        """The page about the code; "" for codes that Istio has not."""
        return f"{DOCUMENTATION}{self.type.code.lower()}/" if self.type.code.startswith(_ISTIO) else ""

    @property
    def key(self) -> tuple[int, str, str, str, int, str]:
        """Sorts findings: worst first, then by code, object and text. Equal keys are one finding."""
        where = self.resource.file if self.resource is not None else ""
        line = self.line or (self.resource.line if self.resource is not None else 0)
        return (self.type.level, self.type.code, self.origin, where, line, self.text)

    def __str__(self) -> str:
        place = " ".join(filter(None, (self.origin, self.reference)))
        return f"{self.type.level} [{self.type.code}]{f' ({place})' if place else ''} {self.text}"


def make(kind: MessageType, resource: Resource | None, *values: Any, at: Steps = ()) -> Message:
    """A finding of a type.

    Args:
        kind: the row of the catalogue.
        resource: the object it is about.
        values: what its template is filled with.
        at: the way to the field whose line is shown, where the file has that field and it is a plain value.
    """
    line = resource.line_of(at) if resource is not None and at else 0
    return Message(type=kind, resource=resource, text=fill(kind.template, values), line=line)


def of_field(kind: MessageType, resource: Resource, *values: Any, field: str) -> Message:
    """A finding about a field given as a path, shown on the line of its nearest parent that the file has."""
    return Message(type=kind, resource=resource, text=fill(kind.template, values), line=resource.nearest(field))


def fill(template: str, values: tuple[Any, ...]) -> str:
    """A template with its values, each written as Go's fmt writes it."""
    left = list(values)
    return _VERB.sub(lambda verb: _written(verb.group(), left.pop(0)), template)


def _written(verb: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{' '.join(_written(verb, each) for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False) if verb == "%q" else str(value)

"""Findings of ``istioctl analyze``: which of them a user wants to see, and how they are written."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

LEVELS: Final = ("Error", "Warning", "Info")
FORMATS: Final = ("log", "json", "yaml")
_COLOURS: Final = {"Error": 31, "Warning": 33, "Info": 32}
"""Parameters of the control sequence SGR (ECMA-48)."""

Message = Any
"""An istiod.analysis.message.Message; its module is imported by the command that runs, not by all of istioctl."""


@functools.cache
def codes() -> frozenset[str]:
    """All codes that a message may have."""
    from crds import diagnostic  # noqa: PLC0415 (see the command)
    from istiod.analysis import catalogue  # noqa: PLC0415 (see the command)

    own = (each.value for each in diagnostic.Code)
    return frozenset((*(row.code for row in vars(catalogue).values() if hasattr(row, "template")), *own))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is left out: other namespaces than the chosen one ("" is all), and what users suppress."""

    namespace: str = ""
    suppressions: tuple[tuple[str, str], ...] = ()

    def keeps(self, message: Message) -> bool:
        """Whether a message is to be seen. Objects without a namespace always count."""
        from istiod.analysis import status  # noqa: PLC0415 (see the command)

        resource, code = message.resource, message.type.code
        if resource is None:
            return True
        if self.namespace and resource.namespace not in ("", self.namespace):
            return False
        if status.suppressed(message):
            return False
        names = (f"{resource.kind.name} {resource.full_name}", _friendly(resource))
        return not any(own == code and any(_fits(wanted, name) for name in names) for own, wanted in self.suppressions)


def _friendly(resource: Any) -> str:
    """The form of a name that suppressions use: ``Pod name.namespace``."""
    name = f"{resource.name}.{resource.namespace}" if resource.namespace else resource.name
    return f"{resource.kind.name} {name}"


def _fits(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def written(messages: Sequence[Message], form: str, *, colour: bool) -> str:
    """Messages for a person, one a line, or for a program."""
    if form == "log":
        return "\n".join(_line(each, colour=colour) for each in messages)
    found = [_structured(each) for each in messages]
    if form == "yaml":
        return yaml.safe_dump(found, sort_keys=True, default_flow_style=False, allow_unicode=True)
    return json.dumps(found, indent="\t", sort_keys=True, ensure_ascii=False)


def _line(message: Message, *, colour: bool) -> str:
    text = "".join(each if each.isprintable() else " " for each in str(message))
    level = str(message.type.level)
    if not colour:
        return text
    return f"\x1b[{_COLOURS[level]}m{level}\x1b[0m{text.removeprefix(level)}"


def _structured(message: Message) -> dict[str, str]:
    found = {
        "code": message.type.code,
        "documentationUrl": message.documentation,
        "level": str(message.type.level),
        "message": message.text,
        "origin": message.origin,
        "reference": message.reference,
    }
    return {key: value for key, value in found.items() if value}

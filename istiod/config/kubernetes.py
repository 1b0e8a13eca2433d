"""What the parts that speak with a Kubernetes API say to each other: resources, events of a watch, and its errors.

The client (istiod.kube) and the watch (istiod.watch) are siblings and know only these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

Raw = Mapping[str, Any]
"""An object as the API server gives it."""
NOT_FOUND: Final = 404
FORBIDDEN: Final = 403
CONFLICT: Final = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A collection of the API: all objects of a kind, those of one ``namespace``, or those that ``fields`` selects."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    namespace: str = ""
    fields: str = ""

    def __str__(self) -> str:
        """As kubectl names it, such as ``pods`` or ``gateways.networking.istio.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Verb(Enum):
    """What an event of a watch says of its object."""

    PRESENT = "present"
    """It is in the listing that each pass begins with."""
    LISTED = "listed"
    """The listing is complete (without an object; also for an empty collection)."""
    CHANGED = "changed"
    DELETED = "deleted"
    ALIVE = "alive"
    """Nothing happened, and the connection lives (a bookmark; its object is no object)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a watch."""

    verb: Verb
    item: Raw


class ApiError(Exception):
    """The API server refused, failed, or was not reached (``status`` 0). ``retry_after`` is what it asks for, seconds.

    The message is fit for an operator to read.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def reached(self) -> bool:
        """Whether an answer came at all."""
        return self.status > 0

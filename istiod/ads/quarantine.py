"""Resources that a proxy refused, kept from all others (DESIGN section 5, NACK; features row Z4).

One proxy's word is taken only while no other proxy serves that very resource: else a hostile sidecar could freeze the
mesh by refusing what everybody else accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from istiod.config.resource import Resource

LIMIT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A resource that a proxy refused, and the proxy's words."""

    resource: Resource
    error: str


_Key = tuple[str, str, str]


def _key(resource: Resource) -> _Key:
    return resource.type_url, resource.name, resource.version


class Quarantine:
    """Refused resources by type, name and version, each with the last good one that is served instead."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._instead: dict[_Key, Resource | None] = {}
        self._rejections: dict[_Key, Rejection] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._instead)

    def refuse(self, resource: Resource, instead: Resource | None, error: str) -> None:
        """Keep a resource from all streams; ``instead`` is what the refusing proxy goes on serving, if known."""
        if self._instead.get(_key(resource)) is None:
            self._instead[_key(resource)] = instead
        self._rejections[_key(resource)] = Rejection(resource=resource, error=error)
        while len(self._instead) > self._limit:
            oldest = next(iter(self._instead))
            del self._instead[oldest], self._rejections[oldest]

    def rejections(self) -> Iterator[Rejection]:
        """All of them, also those that are no longer in anybody's target."""
        yield from self._rejections.values()

    def accept(self, resource: Resource) -> None:
        """A proxy took it after all: the refusal was that one proxy's own."""
        self._instead.pop(_key(resource), None)
        self._rejections.pop(_key(resource), None)

    def holds(self, resource: Resource) -> bool:
        """Whether this very resource must not be sent."""
        return bool(self._instead) and _key(resource) in self._instead

    def instead(self, resource: Resource) -> Resource | None:
        """The last good one in its place."""
        return self._instead.get(_key(resource))

"""Resources that a proxy refused, kept from all others (DESIGN section 5, NACK; features row Z4).

One proxy's word is taken only while no other proxy serves that very resource: else a hostile sidecar could freeze the
mesh by refusing what everybody else accepts.
"""

from __future__ import annotations

from typing import Final

from istiod.config.resource import Resource

LIMIT: Final = 1_000

_Key = tuple[str, str, str]


def _key(resource: Resource) -> _Key:
    return resource.type_url, resource.name, resource.version


class Quarantine:
    """Refused resources by type, name and version, each with the last good one that is served instead."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._instead: dict[_Key, Resource | None] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._instead)

    def refuse(self, resource: Resource, instead: Resource | None) -> None:
        """Keep a resource from all streams; ``instead`` is what the refusing proxy goes on serving, if known."""
        if self._instead.get(_key(resource)) is None:
            self._instead[_key(resource)] = instead
        while len(self._instead) > self._limit:
            del self._instead[next(iter(self._instead))]

    def accept(self, resource: Resource) -> None:
        """A proxy took it after all: the refusal was that one proxy's own."""
        self._instead.pop(_key(resource), None)

    def holds(self, resource: Resource) -> bool:
        """Whether this very resource must not be sent."""
        return bool(self._instead) and _key(resource) in self._instead

    def instead(self, resource: Resource) -> Resource | None:
        """The last good one in its place."""
        return self._instead.get(_key(resource))

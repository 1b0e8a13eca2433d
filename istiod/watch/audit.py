"""The audit of the watch: now and then what the API server lists is compared with what is known (DESIGN section 6).

No mechanism of the watch relies on it: it shows, and ends, what no watch should ever do: lose an event. Only metadata
are listed, and only versions compared. An event may be on its way while a listing is taken, so an object counts as lost
only where it differed in two listings, some time apart, and nothing was heard of it in between. Then its kind is listed
anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from crds.key import ConfigKey
from istiod.config.kubernetes import ApiError, Resource
from istiod.config.protocols import ObjectApi
from istiod.watch.kinds import WatchedKind
from istiod.watch.objects import ObjectSet
from wire.exposition import Family, Sample, family

PERIOD: Final = 600.0
"""Seconds between two audits, drawn anew each time between half and one and a half of it: replicas do not meet."""
GRACE: Final = 10.0
"""Seconds in which an event may come."""
_NAMED: Final = 3
_LOG: Final = logging.getLogger(__name__)
_CHANCE: Final = random.SystemRandom()
Versions = Mapping[ConfigKey, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The pass of a kind that has listed: from where, and which it is."""

    resource: Resource
    number: int


class Watch(Protocol):
    """What is audited."""

    def listed(self, kind: WatchedKind) -> Pass | None:
        """The present pass; None while it lists."""
        ...

    def again(self, kind: WatchedKind) -> None:
        """List a kind anew."""
        ...


Difference = tuple[str, str]
"""The version of an object that is known here, and the one that the API server lists; "" is no object."""


def differing(before: Versions, listed: Versions, after: Versions) -> dict[ConfigKey, Difference]:
    """The objects of which nothing was heard while they were listed, and whose version is another. Pure."""
    return {
        key: (before.get(key, ""), listed.get(key, ""))
        for key in before.keys() | listed.keys()
        if before.get(key) == after.get(key) != listed.get(key)
    }


def lost(first: Mapping[ConfigKey, Difference], second: Mapping[ConfigKey, Difference]) -> list[ConfigKey]:
    """The objects that differed twice with nothing heard in between. Pure.

    What is not known here may have come and gone in between: only where the same object is listed again, it was lost.
    """
    return sorted(key for key, known in first.items() if key in second and _same(known, second[key]))


def _same(first: Difference, second: Difference) -> bool:
    return first[0] == second[0] and (first[0] != "" or first == second)


class Audit:
    """Audits one kind after the other."""

    def __init__(self, api: ObjectApi, objects: ObjectSet, watch: Watch, period: float, grace: float) -> None:
        """``period`` and ``grace``: see PERIOD and GRACE."""
        self._api = api
        self._objects = objects
        self._watch = watch
        self._period = period
        self._grace = grace
        self.lost: Counter[str] = Counter()
        """Objects of which an event was lost, by kind."""
        self.rounds = 0

    async def run(self, kinds: Iterable[WatchedKind]) -> None:
        """Audit until cancelled."""
        kinds = tuple(kinds)
        while True:
            await asyncio.sleep(self._period * _CHANCE.uniform(0.5, 1.5))
            for kind in kinds:
                try:
                    await self._audit(kind)
                except ApiError as error:  # what is wrong with the API server, the watch says
                    _LOG.debug("%s cannot be audited: %s", kind.info.plural, error)
            self.rounds += 1

    def families(self) -> Iterator[Family]:
        """What was found, for /metrics. The name is ours: Istio has no such audit."""
        lost = (Sample(value=count, labels={"type": kind}) for kind, count in sorted(self.lost.items()))
        yield family("pilot_k8s_lost_events", "counter", "Objects of which the watch lost an event.", *lost)

    async def _audit(self, kind: WatchedKind) -> None:
        here = self._watch.listed(kind)
        if here is None:
            return
        suspects = await self._differing(kind, here)
        if not suspects:
            return
        await asyncio.sleep(self._grace)
        found = lost(suspects, await self._differing(kind, here))
        if not found or self._watch.listed(kind) != here:
            return
        self.lost[kind.info.kind] += len(found)
        some = ", ".join(f"{key.namespace}/{key.name}" for key in found[:_NAMED])
        _LOG.warning(
            "%s: the watch lost events of %d objects (%s); they are listed anew", here.resource, len(found), some
        )
        self._watch.again(kind)

    async def _differing(self, kind: WatchedKind, here: Pass) -> dict[ConfigKey, Difference]:
        before = self._objects.versions(kind)
        listed: dict[ConfigKey, str] = {}
        async for head in self._api.heads(here.resource):
            if (key := self._objects.concerning(kind, head)) is not None:
                listed[key] = str(head["metadata"].get("resourceVersion", ""))
        return differing(before, listed, self._objects.versions(kind))

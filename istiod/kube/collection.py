"""A few objects of the API, kept current for a writer: what it compares its wishes with.

The watch of the mesh (istiod.watch) is another thing: it feeds the store and decides what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

from istiod.config import backoff
from istiod.config.kubernetes import FORBIDDEN, NOT_FOUND, ApiError, Event, Raw, Resource, Verb
from istiod.config.protocols import ObjectApi

_STEADY: Final = 20.0
_CHANCE: Final = random.SystemRandom()

Name = tuple[str, str]
"""Namespace and name."""


class Collection:
    """The objects of a resource by name, stripped by ``keep``.

    ``changed`` is called after the first listing, and after each event that made what is kept another.
    """

    def __init__(
        self, api: ObjectApi, resource: Resource, keep: Callable[[Raw], Raw], changed: Callable[[], None]
    ) -> None:
        self._api = api
        self._resource = resource
        self._keep = keep
        self._changed = changed
        self._seen: set[Name] = set()
        self.items: dict[Name, Raw] = {}
        self.listed = False
        self.problem: ApiError | None = None
        self.absent = False
        """Whether the API server said, since the last listing, that it has no such resource, or none for us."""

    async def follow(self) -> None:
        """Keep the objects current until cancelled; what is known stays while the API cannot be asked."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began, error = loop.time(), None
            self._seen = set()
            try:
                async with contextlib.aclosing(self._api.events(self._resource, loop.create_future())) as events:
                    async for event in events:
                        self._take(event)
            except ApiError as problem:
                error = problem
            self.problem = error
            self.absent = self.absent or (error is not None and error.status in (NOT_FOUND, FORBIDDEN))
            failures = 1 if loop.time() - began > _STEADY else failures + 1
            await asyncio.sleep(backoff.delay(failures, error, _CHANCE.random(), started=self.listed))

    def forget(self) -> None:
        """Hold nothing any more, as before the first listing."""
        self.items, self._seen = {}, set()
        self.listed, self.problem, self.absent = False, None, False
        self._changed()

    def _take(self, event: Event) -> None:
        if event.verb is not Verb.ALIVE and self._apply(event):
            self._changed()

    def _apply(self, event: Event) -> bool:
        """Whether it changed anything."""
        if event.verb is Verb.LISTED:
            gone = self.items.keys() - self._seen
            first = not self.listed
            self.items = {name: item for name, item in self.items.items() if name in self._seen}
            self._seen = set()
            self.listed, self.problem, self.absent = True, None, False
            return first or bool(gone)
        metadata = event.item["metadata"]
        name = (metadata.get("namespace", ""), metadata["name"])
        if event.verb is Verb.PRESENT:
            self._seen.add(name)
        before = self.items.get(name)
        if event.verb is Verb.DELETED:
            self.items.pop(name, None)
            return before is not None
        kept = self.items[name] = self._keep(event.item)
        return kept != before

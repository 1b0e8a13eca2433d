"""How old what we know may be: since when the API server, and the store behind it, have not answered us (fault FT47).

A watch cannot tell: silence is its usual state, and a bookmark comes once a minute. So something is read once a second
that has to come from the store. Who is cut off serves what it knows; what is done about its age is left to whoever
watches the metric.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from istiod.config.kubernetes import FORBIDDEN, NOT_FOUND, ApiError
from wire import exposition
from wire.exposition import Family

PERIOD: Final = 1.0
"""Seconds between two questions: the age is right to that much."""
DEADLINE: Final = 5.0
"""Seconds for an answer; the next question follows at once."""
_ANSWERS: Final = (FORBIDDEN, NOT_FOUND)
"""Refusals that say that the API server is there."""


class _Asks(Protocol):
    """Of istiod.kube.client.KubernetesClient."""

    async def request(self, method: str, path: str, *, deadline: float) -> object:
        """One call."""
        ...


class Reach:
    """Asks for our own namespace, again and again. ``clock`` gives seconds that only grow."""

    def __init__(self, client: _Asks, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._path = f"/api/v1/namespaces/{namespace}"
        self._clock = clock
        self._heard: float | None = None
        self._well = True

    @property
    def age(self) -> float:
        """Seconds since a question that was answered, 0.0 where the last one was, and before the first."""
        return 0.0 if self._heard is None or self._well else self._clock() - self._heard

    async def run(self) -> None:
        """Ask until cancelled. Who begins has just read: an API server that is gone from then on is old, too."""
        if self._heard is None:
            self._heard = self._clock()
        while True:
            began = self._clock()
            late = asyncio.get_running_loop().call_later(PERIOD, self._doubt)
            try:
                await self._client.request("get", self._path, deadline=DEADLINE)
                self._answered(began)
            except ApiError as error:
                if error.status in _ANSWERS:
                    self._answered(began)
                else:
                    self._doubt()
            finally:
                late.cancel()
            await asyncio.sleep(max(0.0, began + PERIOD - self._clock()))

    def families(self) -> Iterator[Family]:
        """For /metrics."""
        text = "Seconds since the API server last answered; what this replica serves may be as old."
        yield exposition.of("pilot_source_age_seconds", "gauge", text, self.age)

    def _doubt(self) -> None:
        self._well = False

    def _answered(self, asked: float) -> None:
        self._heard, self._well = asked, True

"""Keeps the key sets that the mesh wants: when each is fetched, and what is said while one cannot be (row N13, FT59).

A set that cannot be fetched again stays in use for a week; one that never came is not there, and tokens are refused.
Servers that answer nothing hold up the keys of the namespace that names them, and of no other.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from crds.diagnostic import Code, Diagnostic, error, warning
from istiod.config.key_sets import KeySource, Wish
from istiod.jwks.fetch import FetchError
from istiod.rounds import Question, Rounds

KEPT: Final = timedelta(days=7).total_seconds()
"""Seconds for which a key set serves that could not be fetched again."""
AT_ONCE: Final = 64
"""Fetches at the same time."""
AT_ONCE_OF_ONE: Final = 4
"""Those among them for one namespace."""
MOST_OF_ONE: Final = 100
"""Key sets for one namespace: each may be a megabyte, and is asked for every minute while it is none."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0

Fetch = Callable[[KeySource, timedelta], Awaitable[str]]
Put = Callable[[KeySource, str | None], object]
Report = Callable[[tuple[Diagnostic, ...]], None]


@dataclasses.dataclass(slots=True, kw_only=True)
class _State(Question):
    """One source. ``good`` is when its keys last came; None: they never did."""

    good: float | None = None


class Refresher:
    """Fetches what is wanted, when it is due. ``put`` takes what came, ``report`` all that is wrong at each change."""

    def __init__(self, fetch: Fetch, put: Put, report: Report, clock: Callable[[], float], interval: timedelta) -> None:
        self._fetch = fetch
        self._put = put
        self._report = report
        self._clock = clock
        self._interval = interval.total_seconds()
        self._wishes: Mapping[KeySource, Wish] = {}
        self._homes: Mapping[KeySource, str] = {}
        self._rounds: Rounds[KeySource, _State] = Rounds(clock, _LONGEST_PAUSE, self._one, self._tell_news)
        self._untold = False
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._slots_of: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    def want(self, wishes: Mapping[KeySource, Wish]) -> None:
        """Keep these sources from now on, and forget all others. The same mapping again costs nothing."""
        if wishes is self._wishes:
            return
        self._wishes = wishes
        self._homes = homes(wishes)
        for source in self._rounds.keep(self._kept(), lambda now: _State(due=now)):
            self._put(source, None)
        self._tell()
        self._rounds.wake()

    def _kept(self) -> set[KeySource]:
        """As many as each namespace may have, those first that it has already."""
        counts: Counter[str] = Counter()
        kept = set()
        for source in sorted(self._homes, key=lambda one: (one not in self._rounds.questions, one)):
            counts[self._homes[source]] += 1
            if counts[self._homes[source]] <= MOST_OF_ONE:
                kept.add(source)
        return kept

    async def settled(self, patience: float) -> None:
        """Wait until each source has been tried once, or so many seconds: whatever is missing is refused meanwhile."""
        await self._rounds.settled(patience)

    async def run(self) -> None:
        """Fetch until cancelled."""
        await self._rounds.run()

    async def _one(self, source: KeySource, state: _State) -> None:
        slots = self._slots_of.setdefault(self._homes[source], asyncio.Semaphore(AT_ONCE_OF_ONE))
        before = (state.problem, state.good is None)
        try:
            async with slots, self._slots:
                keys = await self._fetch(source, self._wishes[source].timeout)
        except FetchError as problem:
            self._failed(source, state, str(problem))
        else:
            now = self._clock()
            state.good, state.failures, state.problem = now, 0, ""
            state.due = now + self._interval
            self._put(source, keys)
        self._untold |= before != (state.problem, state.good is None)

    def _failed(self, source: KeySource, state: _State, problem: str) -> None:
        now = self._clock()
        state.failed(problem)
        pause = min(state.pause(_FIRST_PAUSE, _LONGEST_PAUSE), self._interval)
        state.due = now + pause * (0.5 + random.random() / 2)  # noqa: S311 (many istiods must not ask together)
        if state.good is not None and now - state.good > KEPT:
            state.good = None
            self._put(source, None)

    def _tell_news(self) -> None:
        if self._untold:
            self._tell()

    def _tell(self) -> None:
        self._untold = False
        self._report(tuple(self._findings()))

    def _findings(self) -> Iterator[Diagnostic]:
        for source in sorted(self._wishes.keys() - self._rounds.questions.keys()):
            for key, place in self._wishes[source].places:
                message = f"a namespace has at most {MOST_OF_ONE} key sets: this one is not fetched, tokens are refused"
                yield error(Code.KEYS_UNFETCHED, key, _field(source, place), message)
        for source, state in self._rounds.questions.items():
            if state.problem:
                kept = state.good is not None
                make, then = (warning, "the last keys serve") if kept else (error, "tokens of this issuer are refused")
                for key, place in self._wishes[source].places:
                    message = f"no keys from {source}: {state.problem}; {then}"
                    yield make(Code.KEYS_UNFETCHED, key, _field(source, place), message)


def _field(source: KeySource, place: str) -> str:
    return f"{place}.{'jwksUri' if source.uri else 'issuer'}"


def homes(wishes: Mapping[KeySource, Wish]) -> Mapping[KeySource, str]:
    """The namespace whose turn each source is fetched in: of those that want it, the one that wants fewest. Pure.

    So nobody's source is late because somebody with many names it, too.
    """
    wanting = {source: {key.namespace for key, _ in wish.places} for source, wish in wishes.items()}
    counts = Counter(namespace for each in wanting.values() for namespace in each)
    return {source: min(each, key=lambda one: (counts[one], one), default="") for source, each in wanting.items()}

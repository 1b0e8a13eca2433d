"""What Envoy says about an EnvoyFilter before it is stored: refused, taken, or not asked (feature row Z1).

Only what differs by the object is asked about, and an object is refused only for what Envoy refuses with it and takes
without it, or refuses of it alone: never for a neighbour that is stored already. Whatever keeps Envoy from a verdict is
a warning, and no reason to refuse.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import Final, Protocol

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.envoy_filter import EnvoyFilter
from istiod import apart
from istiod.config.proxy import Proxy
from istiod.config.resource import Resource
from istiod.envoy import blame, foreign_code, trial
from istiod.envoy.trial import Change, Trial
from istiod.gate import candidates, process, stage
from istiod.gate.process import UnaskedError
from istiod.mesh.context import MeshContext
from istiod.mesh.envoy_filters import PatchSet
from webhook import validation
from wire.exposition import Family, Histogram, Sample, family

MOST_RESOURCES: Final = 200
"""Resources that Envoy is asked about at once: some 0.3 s of its time."""
MOST_WAITING: Final = 8
_SHARE: Final = 0.5
"""Of the time for all, how much may go into finding out what changes."""
_HEAD: Final = 150
_TAIL: Final = 400
"""Characters of Envoy's words that are shown where they are many."""
_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_MOST_NAMED: Final = 3
"""Of the neighbours that are left out, how many are named."""
_NOTHING: Final = PatchSet(patches=())
_NAMES_OTHERS: Final = re.compile(r"unknown (?:\w+ ){0,3}cluster|cluster '[^']*' (?:is|was|does) not", re.IGNORECASE)
"""How Envoy misses a cluster: proxies may have it, from a bootstrap of their own or once there is a service."""
_LOG: Final = logging.getLogger(__name__)

Work = Callable[[MeshContext, tuple[Proxy, ...]], tuple[Trial, ...]]
Look = Callable[[Work], Awaitable[tuple[Trial, ...]]]
"""Calls a function with the mesh and the connected proxies, where nobody changes them meanwhile."""


class Asked(Protocol):
    """An Envoy that can be asked: see istiod.gate.process.Envoy."""

    async def words(self, bootstrap: bytes, seconds: float) -> str:
        """What it says against a bootstrap."""
        ...


class Outcome(Enum):
    """What came of one object."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNRELATED = "unrelated"
    """Envoy refuses what it is about without it, too."""
    UNASKED = "unasked"


@dataclass(slots=True)
class Counts:
    """The counters of one process."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    seconds: Histogram = field(default_factory=lambda: Histogram(_BOUNDS))

    def families(self) -> Iterator[Family]:
        """All of them, for the text of a scrape."""
        several = (Sample(value=self.outcomes[each], labels={"outcome": each.value}) for each in Outcome)
        text = "EnvoyFilters under admission by what Envoy said about them."
        yield family("istiod_envoy_checks_total", "counter", text, *several)
        text = "Seconds that it took to ask Envoy about an EnvoyFilter."
        yield family("istiod_envoy_check_seconds", "histogram", text, *self.seconds.samples())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is put before Envoy: with the object and without it; ``notes`` say what is left out of both."""

    with_it: bytes
    without_it: bytes
    asked: int
    notes: tuple[str, ...]


class Gate:
    """Judges objects one after the other. ``seconds`` is the time that one may take, waiting included."""

    def __init__(self, envoy: Asked, look: Look, seconds: float, counts: Counts | None = None) -> None:
        self._envoy = envoy
        self._look = look
        self._seconds = seconds
        self.counts = counts or Counts()
        self.asks = seconds > 0
        self._one = asyncio.Lock()
        self._waiting = 0

    async def findings(self, document: Mapping[str, object]) -> tuple[Diagnostic, ...]:
        """What Envoy says against an object, which is valid by itself; nothing about other kinds than EnvoyFilter."""
        item = await apart.beside(lambda: validation.named(document).object)
        return await self.of(item) if isinstance(item, EnvoyFilter) else ()

    async def of(self, item: EnvoyFilter) -> tuple[Diagnostic, ...]:
        """As ``findings``, about an object that has been read."""
        began = time.monotonic()
        outcome, found = await self._judged(item)
        self.counts.outcomes[outcome] += 1
        self.counts.seconds.observe(time.monotonic() - began)
        return found

    async def _judged(self, item: EnvoyFilter) -> tuple[Outcome, tuple[Diagnostic, ...]]:
        if self._waiting >= MOST_WAITING:
            return _unasked(item, "too many objects wait to be asked about")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds), self._one:
                return await self._verdict(item, time.monotonic() + self._seconds * _SHARE)
        except TimeoutError:
            return _unasked(item, f"Envoy gave no verdict within {self._seconds:g} s")
        except UnaskedError as error:
            return _unasked(item, str(error))
        except Exception:  # noqa: BLE001 (a bug of ours is logged, and refuses nobody's object)
            _LOG.exception("Envoy could not be asked about %s", item.key)
            return _unasked(item, "istiod failed to put it before Envoy, as its log says")
        finally:
            self._waiting -= 1

    async def _verdict(self, item: EnvoyFilter, until: float) -> tuple[Outcome, tuple[Diagnostic, ...]]:
        found = await self._look(lambda context, proxies: candidates.trials(context, proxies, item))
        if not found:
            found = await apart.beside(partial(_staged, item))
        found, left = await apart.beside(partial(_loadable, item, found))
        case = await apart.beside(partial(_case, found, until))
        notes = (*left, *(_note(item, text) for text in case.notes))
        if not case.asked:
            return (Outcome.UNASKED if notes else Outcome.TAKEN), notes
        words = await self._envoy.words(case.with_it, self._seconds)
        if not words:
            return Outcome.TAKEN, notes
        before = await self._envoy.words(case.without_it, self._seconds)
        if not before:
            return _against(item, found, words, notes)
        by_itself = await apart.beside(partial(_alone, found, until))
        alone = await self._envoy.words(by_itself.with_it, self._seconds)
        differs = alone and blame.plain(alone) != blame.plain(before)
        if differs and not await self._envoy.words(by_itself.without_it, self._seconds):
            return _against(item, found, alone, notes)
        message = f"Envoy refuses what it is for without it, too, and may judge it only then: {_short(before)}"
        told = diagnostic.warning(Code.REFUSED_ALREADY, item.key, "spec.configPatches", message)
        return Outcome.UNRELATED, (told, *notes)


def opened(wait: timedelta, look: Look) -> Gate:
    """The gate of an istiod, with the Envoy that is beside it."""
    binary = process.found()
    return Gate(process.Envoy(binary), look, wait.total_seconds())


def _staged(item: EnvoyFilter) -> tuple[Trial, ...]:
    context, proxies = stage.meshed(item)
    return candidates.trials(context, proxies, item)


def _loadable(item: EnvoyFilter, found: Sequence[Trial]) -> tuple[tuple[Trial, ...], tuple[Diagnostic, ...]]:
    """The trials without neighbours that may not be loaded here, and who these are.

    Raises:
        UnaskedError: the object itself may not.
    """
    if own := foreign_code.foreign(patch for one in found for patch in one.alone.patches):
        raise UnaskedError(f"{own[item.key]} is of the proxy's machine, which is not here")
    left = foreign_code.unloadable(patch for one in found for patch in one.without.patches)
    if not left:
        return tuple(found), ()
    named = ", ".join(f"{key} ({why})" for key, why in itertools.islice(left.items(), _MOST_NAMED))
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    text = f"Envoy was asked about it as if there were no {named}{more}: that is not loaded here"
    told = diagnostic.warning(Code.ASKED_WITHOUT, item.key, "spec.configPatches", text)
    return tuple(one.leaving(left) for one in found), (told,)


def _case(found: Iterable[Trial], until: float) -> _Case:
    return _gathered([(one, one.without, one.whole) for one in found], until)


def _alone(found: Iterable[Trial], until: float) -> _Case:
    return _gathered([(one, _NOTHING, one.alone) for one in found], until)


def _gathered(worlds: Iterable[tuple[Trial, PatchSet, PatchSet]], until: float) -> _Case:
    """All that changes, once each, as far as time and number allow."""
    changes: dict[tuple[str, str, str], Change] = {}
    stubs: set[str] = set()
    notes: list[str] = []
    for one, before, after in worlds:
        mine = []
        for change in trial.changes(one, before, after):
            if len(changes) >= MOST_RESOURCES or time.monotonic() > until:
                notes = ["it changes more than Envoy is asked about here: only a part was"]
                break
            made = change.after
            if changes.setdefault((made.type_url, made.name, made.version), change) is change:
                mine.append(change)
        several = [each for change in mine for each in (change.before, change.after) if each is not None]
        stubs |= trial.needed(one, several)
    new, code = _bodies(change.after for change in changes.values())
    old, _ = _bodies(change.before for change in changes.values() if change.before is not None)
    if code:
        notes.append(f"{code[0]} runs code of a sort that is not loaded here; Envoy was not asked about it")
    return _Case(
        with_it=trial.bootstrap(new, stubs),
        without_it=trial.bootstrap(old, stubs),
        asked=len(new),
        notes=tuple(notes),
    )


def _bodies(resources: Iterable[Resource]) -> tuple[list[tuple[Resource, bytes]], list[str]]:
    """Resources with what of them may be loaded here, and the names of those of which nothing may."""
    found, left = [], []
    for one in resources:
        body = foreign_code.disarmed(trial.body(one), one.type_url)
        if body is None:
            left.append(f"{one.type_url.rpartition('.')[2]} {one.name}")
        else:
            found.append((one, body))
    return found, left


def _against(
    item: EnvoyFilter, found: Iterable[Trial], words: str, notes: tuple[Diagnostic, ...]
) -> tuple[Outcome, tuple[Diagnostic, ...]]:
    """The verdict where Envoy has words against the object.

    Raises:
        UnaskedError: it misses a cluster, which proxies may have.
    """
    if _NAMES_OTHERS.search(words):
        raise UnaskedError(f"it names a cluster that is not known here: {_short(words)}")
    return Outcome.REFUSED, (_refused(item, found, words), *notes)


def _refused(item: EnvoyFilter, found: Iterable[Trial], words: str) -> Diagnostic:
    mine = [patch for one in found for patch in one.alone.patches]
    path = trial.guilty(mine, words) or "spec.configPatches"
    return diagnostic.error(Code.REJECTED_BY_ENVOY, item.key, path, f"Envoy refuses it: {_short(words)}")


def _short(words: str) -> str:
    """Envoy's words on one line: they begin with what is wrong with it, which may be long, and end with why."""
    plain = " ".join(blame.plain(each) for each in words.splitlines())
    return plain if len(plain) <= blame.MAX_WORDS else f"{plain[:_HEAD]} ... {plain[-_TAIL:]}"


def _unasked(item: EnvoyFilter, why: str) -> tuple[Outcome, tuple[Diagnostic, ...]]:
    return Outcome.UNASKED, (_note(item, f"Envoy was not asked about it: {why}"),)


def _note(item: EnvoyFilter, text: str) -> Diagnostic:
    return diagnostic.warning(Code.UNASKED, item.key, "spec.configPatches", text)

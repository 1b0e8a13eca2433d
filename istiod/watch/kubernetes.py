"""A Kubernetes API as the source of truth: one list-watch pass after the other for each kind (DESIGN section 6).

Here is the loop only: what an event means is decided in istiod.watch.objects, how long to wait in config.backoff. An
error ends the pass of its kind and nothing else. Nothing is ready before every kind has been listed once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.registry import Effect
from istiod import apart
from istiod.config import backoff
from istiod.config.kubernetes import FORBIDDEN, NOT_FOUND, ApiError, Event, Verb
from istiod.config.protocols import ObjectApi
from istiod.config.store import ConfigStore
from istiod.watch import kinds, objects, weight
from istiod.watch.audit import GRACE, PERIOD, Audit, Pass
from istiod.watch.files import Change
from istiod.watch.kinds import WatchedKind
from istiod.watch.objects import ObjectSet, Reading

REPORT_PERIOD: Final = 0.2
"""Seconds between two reports: findings of a thousand events in a row are told once."""
STEADY: Final = 20.0
"""Seconds for which a watch has to live to be no failure."""
MISSES: Final = 2
"""Listings in a row that have to say that a kind is gone before its objects are (a deleted CRD)."""
_LOG: Final = logging.getLogger(__name__)
_CHANCE: Final = random.SystemRandom()
_NAMERS: Final = (kinds.GATEWAY, kinds.DESTINATION_RULE)


@dataclass(slots=True, kw_only=True)
class _State:
    """One kind's watch."""

    listed: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Future[None] | None = None
    problem: ApiError | None = None
    failures: int = 0
    attempts: int = 0
    misses: int = 0
    passes: int = 0
    heard: float = 0.0
    complete: bool = False
    """Whether the present pass has listed."""


class ClusterWatch:
    """Keeps a store equal to a cluster."""

    def __init__(
        self,
        api: ObjectApi,
        objects: ObjectSet,
        store: ConfigStore,
        watched: Iterable[WatchedKind],
        report: Callable[[tuple[Diagnostic, ...]], None],
    ) -> None:
        """Follow ``watched`` through ``api``; ``report`` is given all findings when they changed."""
        self.audit = Audit(api, objects, self, PERIOD, GRACE)
        self._api = api
        self._objects = objects
        self._store = store
        self._states = {kind: _State() for kind in watched}
        self._report = report
        self._told: tuple[Diagnostic, ...] = ()
        self._known: tuple[int, tuple[Diagnostic, ...]] = -1, ()
        self._wanted: frozenset[str] = frozenset()
        self._credentials = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Follow all kinds until cancelled; ``ready`` is called once, when each has been listed."""
        async with asyncio.TaskGroup() as tasks:
            for kind, state in self._states.items():
                follow = self._follow_secrets if kind.kind == kinds.SECRET else self._follow
                tasks.create_task(follow(kind, state), name=f"watch of {kind.resource()}")
            tasks.create_task(self._tell_forever(), name="findings of the watch")
            for state in self._states.values():
                await state.listed.wait()
            ready()
            tasks.create_task(self.audit.run(self._states), name="audit of the watch")

    def listed(self, kind: WatchedKind) -> Pass | None:
        """See istiod.watch.audit.Watch."""
        state = self._states[kind]
        return Pass(resource=kind.resource(state.attempts), number=state.passes) if state.complete else None

    def again(self, kind: WatchedKind) -> None:
        """See istiod.watch.audit.Watch."""
        state = self._states[kind]
        if state.stop is not None and not state.stop.done():
            state.stop.set_result(None)

    def waiting(self) -> tuple[str, ...]:
        """What the start still waits for, each with the reason where there is one."""
        return tuple(
            f"{kind.resource()}: {state.problem}" if state.problem else f"{kind.resource()}: being listed"
            for kind, state in self._states.items()
            if not state.listed.is_set()
        )

    def status(self) -> list[Mapping[str, Any]]:
        """Each kind's watch, for a debug page.

        Passes so far, seconds since the last sign of life, the last problem, objects of which an event was lost.
        """
        now = time.monotonic()
        return [
            {
                "kind": str(kind.resource()),
                "listed": state.listed.is_set(),
                "passes": state.passes,
                "silent": round(now - state.heard, 1) if state.heard else None,
                "problem": str(state.problem) if state.problem else None,
                "lost": self.audit.lost[kind.info.kind],
            }
            for kind, state in self._states.items()
        ]

    async def _follow(self, kind: WatchedKind, state: _State) -> None:
        while True:
            error = await self._pass(kind, state)
            if error is not None and self._try_other_version(kind, state, error):
                continue
            state.problem = error
            if error is not None:
                self._settle_for_nothing(kind, state, error)
            if state.stop is not None and state.stop.done():
                continue  # we ended it ourselves, to list again
            started = state.listed.is_set()
            await asyncio.sleep(backoff.delay(state.failures, error, _CHANCE.random(), started=started))

    async def _follow_secrets(self, kind: WatchedKind, state: _State) -> None:
        """Secrets are read only once something names one: then those, and the rest is never kept."""
        for other, waited in self._states.items():
            if other.kind in _NAMERS:
                await waited.listed.wait()
        if not self._wanted:
            state.listed.set()
            await self._credentials.wait()
        await self._follow(kind, state)

    async def _pass(self, kind: WatchedKind, state: _State) -> ApiError | None:
        """One pass; the error that ended it, or None where it just ended."""
        state.stop = asyncio.get_running_loop().create_future()
        state.complete = False
        state.passes += 1
        began = asyncio.get_running_loop().time()
        self._objects.begin(kind)
        error = None
        try:
            async with contextlib.aclosing(self._api.events(kind.resource(state.attempts), state.stop)) as events:
                async for event in events:
                    state.heard = time.monotonic()
                    await self._take(kind, state, event)
        except ApiError as problem:
            error = problem
        steady = state.complete and asyncio.get_running_loop().time() - began > STEADY
        state.failures = 1 if steady else state.failures + 1
        return error

    async def _take(self, kind: WatchedKind, state: _State, event: Event) -> None:
        if event.verb is Verb.LISTED:
            self._apply(self._objects.listed(kind))
            state.complete, state.misses, state.problem = True, 0, None
            state.listed.set()
        elif event.verb is not Verb.ALIVE:
            reading = await self._read_apart(kind, event)
            try:
                self._apply(self._objects.take(kind, event, reading), compared=reading is not None)
            except Exception:  # noqa: BLE001 (a bug that one object brings to light must not keep back all others: FT18)
                _LOG.exception("an object of %s cannot be taken: %s", kind.resource(), event.item.get("metadata"))
        if kind.kind in _NAMERS:
            self._want_secrets()

    async def _read_apart(self, kind: WatchedKind, event: Event) -> Reading | None:
        """A large object, read beside the loop, which goes on; the kind's next event waits. None of any other."""
        if event.verb is Verb.DELETED or not (kind.ours or kind.kind == kinds.SERVICE) or not weight.heavy(event.item):
            return None
        key = self._objects.concerning(kind, event.item)
        if key is None:
            return None
        try:
            return await apart.beside(partial(objects.read, kind, event.item, self._store.get(key)))
        except Exception:  # noqa: BLE001 (a bug: who takes the event without it meets it again, and says so)
            return None

    def _apply(self, change: Change, *, compared: bool = False) -> None:
        for item in change.applied:
            self._store.apply(item, compared=compared)
        for key in change.removed:
            self._store.remove(key)

    def _want_secrets(self) -> None:
        """A name more than before: list again. A name that went counts when it comes back: its Secret was dropped."""
        wanted, before = self._objects.credentials, self._wanted
        self._wanted = wanted
        if wanted <= before:
            return
        self._credentials.set()
        for kind in self._states:
            if kind.kind == kinds.SECRET:
                self.again(kind)

    def _try_other_version(self, kind: WatchedKind, state: _State, error: ApiError) -> bool:
        """Whether a kind that was not found may be served under another of its versions."""
        if error.status != NOT_FOUND:
            return False
        state.attempts += 1
        if state.attempts % len(kind.info.versions) != 0:
            return True
        state.misses += 1
        return False

    def _settle_for_nothing(self, kind: WatchedKind, state: _State, error: ApiError) -> None:
        """What a missing CRD, or a missing right to read it, means: see istiod.watch.kinds.WatchedKind."""
        if error.status == NOT_FOUND and state.misses >= MISSES and kind.optional:
            self._apply(self._objects.vanish(kind))
        if error.status in (NOT_FOUND, FORBIDDEN) and kind.optional:
            state.listed.set()

    def tell(self) -> None:
        """Report the findings as they are now, if others than those told last."""
        if self._known[0] != self._objects.changes:
            self._known = self._objects.changes, self._objects.diagnostics
        findings = (*self._known[1], *self._problems())
        if findings != self._told:
            self._told = findings
            self._report(findings)

    async def _tell_forever(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(REPORT_PERIOD)

    def _problems(self) -> Iterator[Diagnostic]:
        for kind, state in self._states.items():
            if state.problem is not None and not _harmless(kind, state.problem):
                kept = "what is known of it stays" if state.listed.is_set() else "nothing is served before it is listed"
                yield diagnostic.error(Code.UNWATCHED, None, "", f"{state.problem}; {kept}")


def _harmless(kind: WatchedKind, problem: ApiError) -> bool:
    """Whether nobody misses anything: there is no CRD of a kind that has no effect anyway."""
    return problem.status == NOT_FOUND and kind.optional and kind.info.effect is Effect.NOT_YET

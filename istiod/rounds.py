"""Asks others again and again, each thing when it is due, so that istiod knows before a proxy needs it.

What is asked, what an answer changes and when the next question is due is left to those who ask (istiod.jwks,
istiod.kube). Nothing waits here while a proxy is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_DOUBLINGS: Final = 10
_BREATH: Final = 0.05
"""Seconds between two looks: what many answers come to is told together."""


@dataclass(slots=True, kw_only=True)
class Question:
    """One thing that is asked. ``due`` is a moment of the clock; ``failures`` counts those since the last answer."""

    due: float
    failures: int = 0
    problem: str = ""
    tried: bool = False
    task: asyncio.Task[None] | None = None

    def failed(self, problem: str) -> None:
        """Nobody answered."""
        self.failures += 1
        self.problem = problem

    def pause(self, first: float, longest: float) -> float:
        """Seconds to wait after a failure: ``first``, doubled with each further one, up to ``longest``."""
        return min(first * 2.0 ** min(self.failures - 1, _DOUBLINGS), longest)


K = TypeVar("K")
Q = TypeVar("Q", bound=Question)


class Rounds(Generic[K, Q]):
    """The questions by what they are about. ``again`` is the longest time, in seconds, that a question may wait.

    ``ask`` puts one and sets when it is ``due`` next; ``told`` is called at each look, after what came.
    """

    def __init__(
        self, clock: Callable[[], float], again: float, ask: Callable[[K, Q], Awaitable[None]], told: Callable[[], None]
    ) -> None:
        """``clock`` gives monotonic seconds."""
        self.questions: dict[K, Q] = {}
        self._clock = clock
        self._again = again
        self._ask = ask
        self._told = told
        self._wake = asyncio.Event()
        self._tried = asyncio.Condition()
        self._untold = False

    def keep(self, wanted: Iterable[K], make: Callable[[float], Q]) -> list[K]:
        """Ask about these from now on, and forget all others, which are given back. ``make`` gets the clock's time."""
        kept = set(wanted)
        gone = [key for key in self.questions if key not in kept]
        for key in gone:
            question = self.questions.pop(key)
            if question.task is not None:
                question.task.cancel()
        for key in kept - self.questions.keys():
            self.questions[key] = make(self._clock())
        return gone

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def settled(self, patience: float) -> None:
        """Wait until each question was put once and what came of it was told, or so many seconds."""
        try:
            async with asyncio.timeout(patience), self._tried:
                await self._tried.wait_for(self._is_settled)
        except TimeoutError:
            return

    def _is_settled(self) -> bool:
        return not self._untold and all(question.tried for question in self.questions.values())

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            while True:
                self._wake.clear()
                pause = self._begin()
                self._untold = False
                self._told()
                async with self._tried:
                    self._tried.notify_all()
                await asyncio.sleep(_BREATH)
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for question in self.questions.values():
                if question.task is not None:
                    question.task.cancel()

    def _begin(self) -> float | None:
        """Start what is due; seconds until the next is, None where nothing waits."""
        now = self._clock()
        pauses: list[float] = []
        for key, question in self.questions.items():
            if question.task is None and question.due <= now:
                question.due = now + self._again  # also where a bug ends the task
                question.task = asyncio.create_task(self._one(key, question))
            elif question.task is None:
                pauses.append(question.due - now)
        return min(pauses, default=None)

    async def _one(self, key: K, question: Q) -> None:
        try:
            await self._ask(key, question)
        finally:
            question.task = None
            self._untold = True
            self._wake.set()
        question.tried = True

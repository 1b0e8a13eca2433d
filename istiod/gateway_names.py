"""Looks up the DNS names of gateways of networks, so that proxies get addresses (features row R10).

Load balancers of some clouds have a name only, and a name may get other addresses. One that cannot be looked up keeps
those it had. Which names there are is istiod.mesh.networks'.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from crds.diagnostic import Code, Diagnostic, warning
from istiod.config.gateway_names import Wishes
from istiod.config.store import ConfigStore
from istiod.debug.findings import Findings
from istiod.mesh import networks
from istiod.mesh.context import MeshContext
from istiod.rounds import Question, Rounds

AGAIN: Final = 30.0
"""Seconds between two look-ups of a name: the least that Istio waits, whatever a record's time to live."""
FIRST_PAUSE: Final = 1.0
"""Seconds after the first failure; each further one doubles them, up to ``AGAIN``."""
AT_ONCE: Final = 2
"""Look-ups at the same time: each takes a thread for as long as the resolver tries, and others need such threads."""

LookUp = Callable[[str], Awaitable[tuple[str, ...]]]
Put = Callable[[str, tuple[str, ...] | None], object]
Report = Callable[[tuple[Diagnostic, ...]], None]


@dataclass(slots=True, kw_only=True)
class _Name(Question):
    """``known``: it has addresses."""

    known: bool = False


def wanted(context: MeshContext) -> Wishes:
    """The names that a mesh wants."""
    services = context.model.registry.services
    return networks.wishes(context.model.settings.networks, ((s.origin.key, s.outside) for s in services if s.outside))


async def look_up(name: str) -> tuple[str, ...]:
    """The addresses of a name, sorted, as this machine resolves it (also by its file of hosts). None of one link only.

    Raises:
        OSError: it has none, or nobody says.
    """
    answer = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    found = {ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in answer}
    far = [one for one in found if not (one.is_link_local or one.is_unspecified)]
    if not far:
        raise OSError("it has addresses of one link only")
    return tuple(sorted(map(str, far)))


def following(store: ConfigStore, findings: Findings) -> GatewayNames:
    """Names of this process: the store gets their addresses, ``findings`` what is wrong."""
    report = partial(findings.replace, "names of gateways")
    return GatewayNames(store.put_gateway_addresses, report, time.monotonic)


class GatewayNames:
    """Keeps the addresses of what is wanted. ``put`` takes what came, ``report`` all that is wrong at each change."""

    def __init__(self, put: Put, report: Report, clock: Callable[[], float], look: LookUp = look_up) -> None:
        """``clock`` gives monotonic seconds."""
        self._put = put
        self._report = report
        self._clock = clock
        self._look = look
        self._wishes: Wishes = {}
        self._rounds: Rounds[str, _Name] = Rounds(clock, AGAIN, self._one, self._tell_news)
        self._untold = False
        self._slots = asyncio.Semaphore(AT_ONCE)

    def want(self, wishes: Wishes) -> None:
        """Look these up from now on, and forget all others. The same again cost nothing."""
        if wishes == self._wishes:
            return
        self._wishes = wishes
        for name in self._rounds.keep(wishes, lambda now: _Name(due=now)):
            self._put(name, None)
        self._tell()
        self._rounds.wake()

    async def settled(self, patience: float) -> None:
        """Wait until each name has been looked up once, or so many seconds."""
        await self._rounds.settled(patience)

    async def run(self) -> None:
        """Look up until cancelled."""
        await self._rounds.run()

    async def _one(self, name: str, question: _Name) -> None:
        before = question.problem
        try:
            async with self._slots:
                addresses = await self._look(name)
        except (OSError, UnicodeError) as problem:
            question.failed(str(problem))
            pause = AGAIN if question.known else question.pause(FIRST_PAUSE, AGAIN)
        else:
            question.failures, question.problem, question.known = 0, "", True
            pause = AGAIN
            self._put(name, addresses)
        question.due = self._clock() + pause * (0.75 + random.random() / 2)  # noqa: S311 (not all names at once)
        self._untold |= before != question.problem

    def _tell_news(self) -> None:
        if self._untold:
            self._tell()

    def _tell(self) -> None:
        self._untold = False
        self._report(tuple(self._findings()))

    def _findings(self) -> Iterator[Diagnostic]:
        for name, question in sorted(self._rounds.questions.items()):
            if question.problem:
                then = "its last addresses serve" if question.known else "nobody is reached through it"
                for key, place in self._wishes[name]:
                    message = f"{name} cannot be looked up: {question.problem}; {then}"
                    yield warning(Code.UNRESOLVED_GATEWAY, key, place, message)

"""Follows what the operator does with the CA, and takes the steps of its replacement (istiod.ca.rollover).

Level-triggered: each look compares what is wanted, what is published and what proxies show. Where all of that is kept
(a folder, Secrets) is behind ``Place``. One of several replicas, the leader, decides; the others do as it wrote.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from istiod.ca import authority, rollover
from istiod.ca.authority import Authority, AuthorityError, Material
from istiod.ca.rollover import Seen, State
from istiod.ca.signer import Signer
from istiod.features import Features
from istiod.grpcserver.stream import Client
from wire.exposition import Family, Sample, family, of

LOOK: Final = 1.0
"""Seconds between two looks."""
RETURNS: Final = 50.0
"""Proxies per second that are made to connect anew while a root is replaced."""
ALARM: Final = 0.25
"""Part of a certificate's life that is left when an operator has to hear of it (faults FT33, FT37)."""
Say = Callable[[str], None]


class OutdatedError(AuthorityError):
    """Somebody else has written where the state is kept: the next look sees it, and decides anew."""


class UngrantedError(AuthorityError):
    """The operator wishes for a new root where there can be none: it is said, and all else goes on."""


class Place(Protocol):
    """Where the CA and the state of its replacement are kept."""

    @property
    def leads(self) -> bool:
        """Whether this process decides."""
        ...

    def wanted(self) -> Material | None:
        """The CA as the operator has it; None while it is not there.

        Raises:
            AuthorityError: it cannot be read.
        """
        ...

    def state(self) -> State | None:
        """What was kept; None if nothing was.

        Raises:
            AuthorityError: it cannot be read.
        """
        ...

    def others(self, fingerprint: int) -> Sequence[Seen]:
        """What other replicas see of the proxies' roots; ``missing`` is None for one that speaks of other roots."""
        ...

    async def keep(self, state: State, status: str) -> None:
        """Keep this state for all replicas. The outside world's errors are the implementation's to report."""
        ...

    async def report(self, seen: Seen, fingerprint: int) -> None:
        """Tell the leader."""
        ...

    async def renew(self, state: State, signer: Authority, *, aged: bool) -> bool:
        """Replace the CA's self-signed root by a new one, where the operator asks for it or it is ``aged``.

        Returns whether it did. ``state``, which holds the key of ``signer``, is kept before. An operator's own CA is
        never replaced.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Who is connected. ``hasten`` makes those connect anew, within so many seconds, of whom its question is true."""

    clients: Callable[[], Iterable[Client]]
    hasten: Callable[[Callable[[Client], bool], float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """``now`` is Unix time. ``wait``: for so many seconds no proxy may have been seen that lacks a root.

    Each ``check`` seconds (0: never) a self-signed root of whose life less than the part ``grace`` is left is aged.
    """

    now: Callable[[], float]
    wait: float
    check: float = 3600.0
    grace: float = 0.2


def clock(now: Callable[[], float], features: Features) -> Clock:
    """As the operator's variables have it."""
    return Clock(
        now=now,
        wait=features.rotation_wait.total_seconds(),
        check=features.root_check.total_seconds(),
        grace=features.root_grace / 100,
    )


class Following:
    """Keeps ``signer`` at what the operator wants and the proxies can take."""

    def __init__(self, place: Place, signer: Signer, proxies: Proxies, clock: Clock, say: Say) -> None:
        self._place = place
        self._signer = signer
        self._proxies = proxies
        self._clock = clock
        self._say = say
        self._started = clock.now()
        self._led = False
        self._lacked = 0.0
        self._checked = 0.0
        self._wanted = signer.current
        self._wanted_material: Material | None = None
        self._status = ""
        self._problem = ""
        self._alarms: tuple[str, ...] = ()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
                self._problem = ""
            except OutdatedError:
                pass
            except AuthorityError as error:
                self._tell("_problem", f"istiod: the CA stays as it is: {error}")
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Take the step that is due.

        Raises:
            AuthorityError: what the operator wants, or the state, cannot be used.
        """
        self._alarm()
        state = self._place.state()
        if state is None:
            if self._place.leads:
                ca = self._signer.current
                usual = max(self._signer.lives.usual, authority.DEFAULT_TTL)  # the variable may be new
                longest = max(self._signer.longest, usual.total_seconds())
                await self._place.keep(rollover.first(ca, self._clock.now(), longest), "")
            return
        await self._step(state)

    async def _step(self, state: State) -> None:
        leads = self._leads()
        own = self._seen(state)
        ungranted = None
        try:
            if leads and await self._renewed(state):
                return
        except UngrantedError as error:
            ungranted = error
        await self._follow(state, own, leads=leads)
        if ungranted is not None:
            raise ungranted

    async def _follow(self, state: State, own: Seen, *, leads: bool) -> None:
        """Publish, sign and tell as is due, with what is wanted and what was seen."""
        seen = rollover.merged((own, *self._place.others(state.fingerprint)))
        wanted = self._read()
        due = rollover.step(state, wanted, self._signer.current, seen if leads else Seen(), self._clock.now())
        if leads and (due.state != state or due.status != self._status):
            await self._place.keep(due.state, due.status)
        if self._signer.use(due.signer):
            self._say(f"istiod: signs with another CA or other roots: {_named(due.signer)}")
        if leads or due.status:
            self._tell("_status", due.status)
        if state.waits:
            self._hasten(state.fingerprint)
        if not leads:  # at last: who is not heard follows all the same
            await self._place.report(own, state.fingerprint)

    async def _renewed(self, state: State) -> bool:
        """Whether there is a new self-signed root; not while there is another one that not all proxies have yet."""
        if state.waits or state.signer is not None:
            return False
        current = self._signer.current
        aged = self._aged(current)
        if not await self._place.renew(rollover.keeping(state, current), current, aged=aged):
            return False
        reason = "since the old one ages" if aged else "as was asked for"
        self._say(f"istiod: the CA has a new self-signed root, {reason}")
        return True

    def _aged(self, ca: Authority) -> bool:
        """Whether little is left of the CA's own life, if it is time to look."""
        now = self._clock.now()
        if not self._clock.check or now < self._checked + self._clock.check:
            return False
        self._checked = now
        return any(name == "ca" and left < self._clock.grace for name, left, _ in lives(ca, now))

    def _leads(self) -> bool:
        """Whether this process decides. One that begins to waits: who led until now told nobody of its own proxies."""
        leads = self._place.leads
        if leads and not self._led:
            self._started = self._clock.now()
        self._led = leads
        return leads

    def _hasten(self, fingerprint: int) -> None:
        """Have those come back who may have the new root by now; many of them over a longer time."""
        count = sum(1 for each in self._proxies.clients() if _lacks(each, fingerprint))
        self._proxies.hasten(lambda client: _lacks(client, fingerprint), max(self._clock.wait / 2, count / RETURNS))

    def _read(self) -> Authority:
        material = self._place.wanted()
        if material is not None and material != self._wanted_material:
            self._wanted = Authority(material)
            self._wanted_material = material
        return self._wanted

    def _seen(self, state: State) -> Seen:
        """What this process sees. Proxies that were elsewhere until now, or on their way back, get time to come."""
        clients = [each for each in self._proxies.clients() if each.secure]
        key = self._signer.current.key_id
        old = sum(1 for each in clients if each.certificate is not None and _shown(each.certificate).issuer != key)
        missing: int | None = sum(1 for _ in lacking(clients, state.fingerprint))
        if missing:
            self._lacked = self._clock.now()
        elif self._clock.now() < max(state.since, self._started, self._lacked) + self._clock.wait or not state.waits:
            missing = None
        return Seen(missing=missing, old=old, longest=self._signer.longest)

    def _alarm(self) -> None:
        """Say once when little is left of a life."""
        found = tuple(
            f"istiod: ALARM: the CA's {name} certificate ends at {end:%Y-%m-%dT%H:%M:%SZ}"
            for name, left, end in lives(self._signer.current, self._clock.now())
            if left < ALARM
        )
        for line in found:
            if line not in self._alarms:
                self._say(line)
        self._alarms = found

    def _tell(self, kept: str, line: str) -> None:
        """Say what is new of a status or a problem."""
        if line and line != getattr(self, kept):
            self._say(line if line.startswith("istiod:") else f"istiod: CA: {line}")
        setattr(self, kept, line)


def lives(ca: Authority, now: float) -> Iterator[tuple[str, float, object]]:
    """Of root and CA: its name, which part of its life is left (0 to 1), and its end."""
    for name, begin, end in ca.ends():
        whole = (end - begin).total_seconds()
        yield name, max(0.0, end.timestamp() - now) / whole if whole else 0.0, end


def lacking(clients: Iterable[Client], fingerprint: int) -> Iterator[Client]:
    """Of these clients those who have not shown that they know the roots of this fingerprint.

    Who shows no certificate (an agent's further streams come with a token) is taken for the proxy at the same address.
    """
    found = tuple(clients)
    shown = {_host(each) for each in found if each.certificate is not None and not _lacks(each, fingerprint)}
    for each in found:
        if _lacks(each, fingerprint) if each.certificate is not None else _host(each) not in shown:
            yield each


def _lacks(client: Client, fingerprint: int) -> bool:
    return client.certificate is not None and _shown(client.certificate).fingerprint != fingerprint


def _host(client: Client) -> str:
    return client.address.rpartition(":")[0]


_shown = functools.lru_cache(maxsize=32_768)(authority.shown)


def _named(ca: Authority) -> str:
    return f"{len(authority.split(ca.roots))} root(s), CA until {ca.ends()[1][2]:%Y-%m-%d}"


def families(ca: Authority, now: float) -> Iterator[Family]:
    """Metrics of the CA's own certificates; those of the root are among the mesh's (istiod.debug.metrics)."""
    _, (_, _, end) = ca.ends()
    name = "citadel_server_cert_chain_expiry"
    yield of(f"{name}_timestamp", "gauge", "Unix time at which the CA's certificate ends.", end.timestamp())
    yield of(f"{name}_seconds", "gauge", "Seconds until the CA's certificate ends.", end.timestamp() - now)
    alarms = (Sample(value=left < ALARM, labels={"certificate": each}) for each, left, _ in lives(ca, now))
    text = "1 once less than a quarter of the certificate's life is left."
    yield family("citadel_server_certificate_alarm", "gauge", text, *alarms)


def resumed(state: State | None, wanted: Authority, now: float) -> Authority:
    """The CA that signs when a process starts: that of the state, while the wanted one has to wait.

    Raises:
        AuthorityError: the CA of the state cannot be used.
    """
    return wanted if state is None else rollover.step(state, wanted, None, Seen(), now).signer

"""The CA of the moment: whoever signs or vouches asks here, so that another CA can take over while they serve."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Protocol

from istiod.ca.authority import USUAL, Authority, Lives, Material
from istiod.features import Features
from wire.spiffe import Identity


def lives(features: Features) -> Lives:
    """As the operator's variables have it."""
    return Lives(usual=features.certificate_life, longest=features.certificate_longest)


class Signs(Protocol):
    """What our servers need of a CA."""

    @property
    def roots(self) -> str:
        """PEM of the roots that clients must trust."""
        ...

    @property
    def lives(self) -> Lives:
        """How long certificates live."""
        ...

    def sign(self, csr_pem: str, identity: Identity, ttl: dt.timedelta, now: dt.datetime) -> tuple[str, ...]:
        """See Authority."""
        ...

    def serving(self, hosts: tuple[str, ...], now: dt.datetime, ttl: dt.timedelta) -> Material:
        """See Authority."""
        ...


class Signer:
    """Signs with one CA at a time. All in the event loop's thread."""

    def __init__(self, ca: Authority, lives: Lives = USUAL) -> None:
        """``lives``: how long certificates live, whichever CA signs."""
        self.lives = lives
        self._current = ca
        self._longest = 0.0
        self._listeners: list[Callable[[], None]] = []

    @property
    def current(self) -> Authority:
        """The CA that signs now, with all roots that are published."""
        return self._current

    @property
    def roots(self) -> str:
        """PEM of the roots that clients must trust."""
        return self._current.roots

    @property
    def longest(self) -> float:
        """The longest life (seconds) of what the present CA's root vouches for, as far as this process granted it."""
        return self._longest

    def listen(self, listener: Callable[[], None]) -> None:
        """Tell ``listener`` of each later change of the CA or of its roots."""
        self._listeners.append(listener)

    def use(self, ca: Authority) -> bool:
        """Sign with this one from now on; whether that is another CA or another set of roots."""
        before = self._current
        if ca.material == before.material:
            return False
        if ca.anchor != before.anchor:
            self._longest = 0.0
        self._current = ca
        for listener in self._listeners:
            listener()
        return True

    def sign(self, csr_pem: str, identity: Identity, ttl: dt.timedelta, now: dt.datetime) -> tuple[str, ...]:
        """See Authority."""
        chain = self._current.sign(csr_pem, identity, ttl, now, self.lives)
        self._longest = max(self._longest, self.lives.of(ttl).total_seconds())
        return chain

    def serving(self, hosts: tuple[str, ...], now: dt.datetime, ttl: dt.timedelta) -> Material:
        """See Authority."""
        return self._current.serving(hosts, now, ttl)

"""Which proxies have acknowledged what an object made: noted when a push tells them, looked at when somebody waits.

A proxy that a change gave nothing new has nothing to acknowledge. One that connected since has to acknowledge its first
configuration, as it may have brought an older one.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from istiod.ads.connection import Connection
from istiod.ads.quarantine import merged

MOST: Final = 2_000
"""Objects whose last change is remembered; of older ones every proxy has to have acknowledged all there is."""

_FIRST: Final = 1
"""The number of a connection's first target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How far an object came: how many proxies it concerns, and who has not acknowledged it, with the reason."""

    proxies: int
    waiting: tuple[tuple[str, str], ...]


_Targets: TypeAlias = weakref.WeakKeyDictionary[Connection, int]
_NOBODY: Final[_Targets] = weakref.WeakKeyDictionary()
_AT_ONCE: Final = 2
"""Pushes that are looked through at each new one."""


class _Told:
    """Whom one push told: when (the clock's seconds), and the number of each one's target.

    That is 150 bytes for each, and there may be thousands of pushes: of those that have acknowledged it no more is kept
    than that they did, as a set of numbers which most pushes share.
    """

    __slots__ = ("__weakref__", "at", "done", "targets")

    def __init__(self, at: float, targets: _Targets) -> None:
        self.at = at
        self.targets = targets
        self.done: frozenset[int] = frozenset()

    def settle(self, known: weakref.WeakValueDictionary[int, frozenset[int]]) -> None:
        """Take out who has acknowledged it."""
        reached = {one.serial for one, target in self.targets.items() if one.reached >= target}
        if reached:
            done = self.done | reached
            found = known.setdefault(hash(done), done)
            self.done = found if found == done else done
            self.targets = _waiting(self.targets)


@dataclass(frozen=True, slots=True)
class _Change:
    """The last change of an object, and who had not acknowledged those before."""

    told: _Told
    before: _Targets

    def target(self, connection: Connection) -> int | None:
        """The number of the target that this one has to acknowledge; None: the object is none of its concern."""
        if connection.serial in self.told.done:
            return 0
        found = self.told.targets.get(connection) or self.before.get(connection)
        return _FIRST if found is None and connection.began >= self.told.at else found

    def waiting(self) -> _Targets:
        """Who has not acknowledged it."""
        return _waiting({**self.before, **self.told.targets})


def _waiting(targets: Mapping[Connection, int]) -> _Targets:
    return weakref.WeakKeyDictionary({one: target for one, target in targets.items() if one.reached < target})


class Deliveries:
    """Of one AdsService, whose connections are ``current``, made at the ``clock``'s time ``began``."""

    def __init__(self, current: Callable[[], Iterable[Connection]], clock: Callable[[], float]) -> None:
        self._current = current
        self._clock = clock
        self._changes: dict[Hashable, _Change] = {}
        self._pushes: collections.deque[weakref.ref[_Told]] = collections.deque()
        self._sets: weakref.WeakValueDictionary[int, frozenset[int]] = weakref.WeakValueDictionary()

    def note(self, keys: Collection[Hashable], proxies: Collection[object]) -> None:
        """These proxies were told of what these objects make now."""
        if not keys:
            return
        ids = {id(proxy) for proxy in proxies}
        told = [connection for connection in self._current() if id(connection.proxy) in ids]
        for connection in told:
            connection.counted = True
        push = _Told(self._clock(), weakref.WeakKeyDictionary({one: one.targets for one in told}))
        for key in keys:
            before = self._changes.pop(key, None)
            self._changes[key] = _Change(push, _NOBODY if before is None else before.waiting())
            if len(self._changes) > MOST:
                del self._changes[next(iter(self._changes))]
        self._settle()
        self._pushes.append(weakref.ref(push))

    def _settle(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._pushes))):
            push = self._pushes.popleft()
            if (found := push()) is not None:
                found.settle(self._sets)
                if found.targets:
                    self._pushes.append(push)

    def known(self, key: Hashable) -> bool:
        """Whether the last change of this object is remembered."""
        return key in self._changes

    def of(self, key: Hashable) -> Delivery:
        """How far this object came."""
        last = self._changes.get(key)
        concerned, waiting = 0, []
        for connection in self._current():
            target = connection.targets if last is None else last.target(connection)
            if target is None:
                continue
            concerned += 1
            connection.look()
            if connection.reached < target:
                waiting.append((_name(connection), _reason(connection)))
        return Delivery(proxies=concerned, waiting=tuple(sorted(waiting)))


def _name(connection: Connection) -> str:
    node = connection.proxy.node
    return f"{node.name}.{node.namespace}"


def _reason(connection: Connection) -> str:
    refused = merged(connection.session.rejections())
    if refused:
        kind = refused[0].resource.type_url.rpartition(".")[2]
        return f"it refuses {kind} {refused[0].resource.name}: {' '.join(refused[0].error.split())[:200]}"
    return "it has not acknowledged it" if connection.reached else "it has not acknowledged its first configuration"

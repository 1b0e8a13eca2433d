"""Which proxies have acknowledged what an object made: noted when a push tells them, looked at when somebody waits.

A proxy that a change gave nothing new has nothing to acknowledge. One that connected since has to acknowledge its first
configuration, as it may have brought an older one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class _Change:
    """The last change of an object: when it was told (the clock's seconds), and to whom, with the target's number."""

    at: float
    told: weakref.WeakKeyDictionary[Connection, int]


class Deliveries:
    """Of one AdsService, whose connections are ``current``, made at the ``clock``'s time ``began``."""

    def __init__(self, current: Callable[[], Iterable[Connection]], clock: Callable[[], float]) -> None:
        self._current = current
        self._clock = clock
        self._changes: dict[Hashable, _Change] = {}

    def note(self, keys: Collection[Hashable], proxies: Collection[object]) -> None:
        """These proxies were told of what these objects make now."""
        ids = {id(proxy) for proxy in proxies}
        told = [connection for connection in self._current() if id(connection.proxy) in ids]
        for key in keys:
            before = self._changes.pop(key, None)
            found: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()
            for connection, target in before.told.items() if before is not None else ():
                if connection.reached < target:
                    found[connection] = target
            for connection in told:
                connection.counted = True
                found[connection] = connection.targets
            self._changes[key] = _Change(self._clock(), found)
            if len(self._changes) > MOST:
                del self._changes[next(iter(self._changes))]

    def known(self, key: Hashable) -> bool:
        """Whether the last change of this object is remembered."""
        return key in self._changes

    def of(self, key: Hashable) -> Delivery:
        """How far this object came."""
        last = self._changes.get(key)
        concerned, waiting = 0, []
        for connection in self._current():
            if last is not None and connection not in last.told and connection.began < last.at:
                continue
            concerned += 1
            connection.look()
            target = connection.targets if last is None else last.told.get(connection, _FIRST)
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

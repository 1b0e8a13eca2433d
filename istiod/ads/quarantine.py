"""Resources that proxies refused, kept from others of the same identity (DESIGN section 5, NACK; features row Z4).

What a proxy says counts for its own identity alone: else a hostile sidecar could withdraw from the mesh whatever it
refuses before others accept it. Proxies of another identity find out for themselves, with one refusal each, and then
get the last good version that anybody who refused the same resource had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from istiod.config.origin import Origin
from istiod.config.resource import Resource

LIMIT: Final = 1_000
MOST_VERSIONS: Final = 4
"""Versions of one resource that one identity refused: each change of anything in it makes another."""
ROOM: Final = 64 * 1024 * 1024
"""Bytes of all that is kept: a route table of a large mesh has a megabyte."""
MOST_PROXIES: Final = 10
"""How many of the proxies that refused a resource are remembered by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Whose stream it is: ``identity`` as the transport proved it, "" without proof; ``name`` for users."""

    identity: str = ""
    name: str = ""


ANYBODY: Final = Client()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A resource that proxies refused, the words of one of them, and their names.

    ``origins`` is known where the bytes are not: of what was refused before a restart. ``withheld``: the version before
    it protects otherwise, so it serves nobody new.
    """

    resource: Resource
    error: str
    proxies: tuple[str, ...] = ()
    origins: tuple[Origin, ...] | None = None
    withheld: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What one identity refused. ``instead`` is the last good version that it had; None where its bytes are unknown."""

    identity: str
    rejection: Rejection
    instead: Resource | None


_Key = tuple[str, str, str]


def key_of(resource: Resource) -> _Key:
    """Type, name and version, which is the content's hash: the same after a restart, and on all replicas."""
    return resource.type_url, resource.name, resource.version


def merged(rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """Each resource once, with the words of the last and the names of all."""
    found: dict[_Key, Rejection] = {}
    for each in rejections:
        key = key_of(each.resource)
        known = found[key].proxies if key in found else ()
        withheld = each.withheld or (key in found and found[key].withheld)
        found[key] = replace(each, proxies=tuple(sorted({*known, *each.proxies})), withheld=withheld)
    return tuple(found.values())


def _any(*_: Resource) -> bool:
    return True


def _size(refused: Refused) -> int:
    """Bytes of what is kept."""
    kept = (refused.rejection.resource, refused.instead)
    return sum(len(each.any_frame) + len(each.delta_frame) for each in kept if each is not None)


def _nobody() -> None:
    """Who is told where nobody listens."""


class Quarantine:
    """Refused resources by identity; who refuses most, or most bytes, loses its own oldest ones first.

    ``safe`` says whether an earlier version may serve in place of a refused one: it must not let in whom that keeps
    out.
    """

    def __init__(self, limit: int = LIMIT, safe: Callable[[Resource, Resource], bool] = _any, room: int = ROOM) -> None:
        self._refused: dict[str, dict[_Key, Refused]] = {}
        self._sizes: Counter[str] = Counter()
        self._room = room
        self._holders: dict[_Key, set[str]] = {}
        self._limit = limit
        self._safe = safe
        self._released: Callable[[], None] = _nobody

    def listen(self, released: Callable[[], None]) -> None:
        """Tell ``released`` whenever something is kept from somebody no more: it may be sent now."""
        self._released = released

    def __len__(self) -> int:
        """How many resources are kept from somebody."""
        return len(self._holders)

    def refuse(self, resource: Resource, instead: Resource | None, error: str, client: Client = ANYBODY) -> None:
        """Keep a resource from the client's identity; ``instead`` is what it goes on serving, if known."""
        self.remember(resource, instead, error, client)
        self._holders.setdefault(key_of(resource), set()).add(client.identity)

    def remember(self, resource: Resource, instead: Resource | None, error: str, client: Client = ANYBODY) -> None:
        """Note what serves instead, for those who refuse the resource, and keep it from nobody else."""
        before = self._refused.get(client.identity, {}).get(key_of(resource))
        proxies = before.rejection.proxies if before is not None else ()
        if client.name and client.name not in proxies:
            proxies = (*proxies, client.name)[:MOST_PROXIES]
        good = before.instead if before is not None else None
        unsafe = good is None and instead is not None and not self._safe(instead, resource)
        withheld = unsafe or (before is not None and before.rejection.withheld)
        rejection = Rejection(resource=resource, error=error, proxies=proxies, withheld=withheld)
        instead = good or (None if unsafe else instead)
        self._put(Refused(identity=client.identity, rejection=rejection, instead=instead))

    def restore(self, refused: Refused) -> None:
        """Take what was refused elsewhere, or before a restart; whoever knows it already knows better."""
        key = key_of(refused.rejection.resource)
        known = self._refused.get(refused.identity, {}).get(key, refused)
        self._put(replace(known, instead=known.instead or refused.instead))
        self._holders.setdefault(key, set()).add(refused.identity)

    def release(self, resource: Resource, identity: str) -> None:
        """Keep a resource from this identity no more, and forget what serves instead."""
        self._drop(identity, key_of(resource))

    def goods(self) -> Mapping[_Key, Resource]:
        """What proxies had before what they refused, by type, name and version, which is the content's hash."""
        goods = (refused.instead for own in self._refused.values() for refused in own.values())
        return {key_of(good): good for good in goods if good is not None}

    def rejections(self) -> Iterator[Rejection]:
        """Those that are kept from somebody, also where they are no longer in anybody's target."""
        for refused in self.held():
            yield refused.rejection

    def held(self) -> Iterator[Refused]:
        """What is kept from whom."""
        for key, identities in self._holders.items():
            yield from (self._refused[identity][key] for identity in sorted(identities))

    def accept(self, resource: Resource) -> None:
        """A proxy took it after all: those that refused it may try again. What serves instead is not forgotten."""
        if self._holders.pop(key_of(resource), None):
            self._released()

    def holds(self, resource: Resource, identity: str = "") -> bool:
        """Whether this very resource must not be sent to this identity."""
        return bool(self._holders) and identity in self._holders.get(key_of(resource), ())

    def instead(self, resource: Resource, identity: str = "") -> Resource | None:
        """The last good one in its place: that of this identity, else of any that refused the same."""
        key = key_of(resource)
        own = self._refused.get(identity, {})
        found = (refused[key].instead for refused in (own, *self._refused.values()) if key in refused)
        return next((good for good in found if good is not None), None)

    def _put(self, refused: Refused) -> None:
        """Keep this one, and make room for it."""
        identity, key = refused.identity, key_of(refused.rejection.resource)
        own = self._refused.setdefault(identity, {})
        self._sizes[identity] += _size(refused) - (_size(own[key]) if key in own else 0)
        own[key] = refused
        alike = [each for each in own if each[:2] == key[:2] and each != key]
        for oldest in alike[: max(0, len(alike) - MOST_VERSIONS + 1)]:
            self._drop(identity, oldest)
        while (weight := self._crowded()) is not None:
            if (found := self._oldest(weight, but=(identity, key))) is None:
                return
            self._drop(*found)

    def _crowded(self) -> Callable[[str], int] | None:
        """What somebody has too much of, by identity; None while there is room."""
        if sum(map(len, self._refused.values())) > self._limit:
            return lambda identity: len(self._refused[identity])
        return self._sizes.__getitem__ if self._sizes.total() > self._room else None

    def _oldest(self, weight: Callable[[str], int], but: tuple[str, _Key]) -> tuple[str, _Key] | None:
        """The oldest one of who has most."""
        for identity in sorted(self._refused, key=weight, reverse=True):
            for key in self._refused[identity]:
                if (identity, key) != but:
                    return identity, key
        return None

    def _drop(self, identity: str, key: _Key) -> None:
        own = self._refused.get(identity, {})
        if (refused := own.pop(key, None)) is not None:
            self._sizes[identity] -= _size(refused)
        if not own:
            self._refused.pop(identity, None)
            self._sizes.pop(identity, None)
        holders = self._holders.get(key, set())
        kept = identity in holders
        holders.discard(identity)
        if not holders:
            self._holders.pop(key, None)
        if kept:
            self._released()

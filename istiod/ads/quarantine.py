"""Resources that proxies refused, kept from others of the same identity (DESIGN section 5, NACK; features row Z4).

What a proxy says counts for its own identity alone: else a hostile sidecar could withdraw from the mesh whatever it
refuses before others accept it. Proxies of another identity find out for themselves, with one refusal each, and then
get the last good version that anybody who refused the same resource had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from istiod.config.origin import Origin
from istiod.config.resource import Resource

LIMIT: Final = 1_000
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


def _nobody() -> None:
    """Who is told where nobody listens."""


class Quarantine:
    """Refused resources by identity; who refuses most loses its own oldest ones first.

    ``safe`` says whether an earlier version may serve in place of a refused one: it must not let in whom that keeps
    out.
    """

    def __init__(self, limit: int = LIMIT, safe: Callable[[Resource, Resource], bool] = _any) -> None:
        self._refused: dict[str, dict[_Key, Refused]] = {}
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
        key, own = key_of(resource), self._refused.setdefault(client.identity, {})
        before = own.get(key)
        proxies = before.rejection.proxies if before is not None else ()
        if client.name and client.name not in proxies:
            proxies = (*proxies, client.name)[:MOST_PROXIES]
        good = before.instead if before is not None else None
        unsafe = good is None and instead is not None and not self._safe(instead, resource)
        withheld = unsafe or (before is not None and before.rejection.withheld)
        own[key] = Refused(
            identity=client.identity,
            rejection=Rejection(resource=resource, error=error, proxies=proxies, withheld=withheld),
            instead=good or (None if unsafe else instead),
        )
        self._bound()

    def restore(self, refused: Refused) -> None:
        """Take what was refused elsewhere, or before a restart; whoever knows it already knows better."""
        key = key_of(refused.rejection.resource)
        own = self._refused.setdefault(refused.identity, {})
        before = own.setdefault(key, refused)
        if before.instead is None and refused.instead is not None:
            own[key] = replace(before, instead=refused.instead)
        self._holders.setdefault(key, set()).add(refused.identity)
        self._bound()

    def release(self, resource: Resource, identity: str) -> None:
        """Keep a resource from this identity no more, and forget what serves instead."""
        key = key_of(resource)
        self._refused.get(identity, {}).pop(key, None)
        if not self._refused.get(identity, {}):
            self._refused.pop(identity, None)
        self._let_go(key, identity)

    def good(self, type_url: str, name: str, version: str) -> Resource | None:
        """The bytes of a version that proxies had, by its hash; None where nobody knows them."""
        wanted = (type_url, name, version)
        goods = (refused.instead for own in self._refused.values() for refused in own.values())
        return next((good for good in goods if good is not None and key_of(good) == wanted), None)

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

    def _bound(self) -> None:
        if sum(map(len, self._refused.values())) <= self._limit:
            return
        identity, most = max(self._refused.items(), key=lambda item: len(item[1]))
        oldest = next(iter(most))
        del most[oldest]
        if not most:
            del self._refused[identity]
        self._let_go(oldest, identity)

    def _let_go(self, key: _Key, identity: str) -> None:
        holders = self._holders.get(key, set())
        kept = identity in holders
        holders.discard(identity)
        if not holders:
            self._holders.pop(key, None)
        if kept:
            self._released()

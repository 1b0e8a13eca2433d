"""The search for what a client refuses among many resources: in which parts they are sent again, and how fast. Pure.

Envoy says of a refused response neither which of its resources it took nor, always, which one is to blame. So they are
sent again in halves, all parts of one size before the halves of any: what is good is soon there, and a single guilty
one is found by at most two refusals in a row. A client that refuses everything takes no part at all, and there are
twice as many parts as resources: after FREE refusals in a row it waits between two of them.
What else is sent meanwhile is the plan's (istiod.ads.plan).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from istiod.config.resource import Resource

FREE: Final = 32
"""Refusals in a row without a pause: as many as sixteen guilty ones make that are spread over any number."""
FEW: Final = 4
"""Refusals in a row from which on a client yields to others: one that has one guilty resource needs a dozen."""
FIRST_PAUSE: Final = 1.0
"""Seconds until the next part then; each further refusal doubles them."""
LONGEST_PAUSE: Final = 60.0
_DOUBLINGS: Final = 6
"""After so many it is the longest."""


@dataclass(slots=True, eq=False)
class Search:
    """That of one type on one stream. ``groups``: names of each part that is yet to be sent apart, in order."""

    groups: tuple[tuple[str, ...], ...] = ()
    _refused: int = 0
    """Refusals since it began, or since a part was taken."""
    _tried: float = 0.0
    """When a part was sent last."""

    @property
    def long(self) -> bool:
        """Whether the client has refused some in a row: others may be served before it."""
        return self._refused >= FEW

    @property
    def slow(self) -> bool:
        """Whether the client has refused so much that there are pauses."""
        return self._refused >= FREE

    @property
    def until(self) -> float:
        """The time (seconds) before which no part is to be sent."""
        over = self._refused - FREE
        return self._tried + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(over, _DOUBLINGS)) if over >= 0 else 0.0

    def part(self, found: Mapping[str, Resource], now: float) -> tuple[Mapping[str, Resource], bool]:
        """The next part of what was refused, if one is outstanding, else all; and which of the two it is.

        During a pause it is what no part has.
        """
        if self.groups and now < self.until:
            parted = {name for group in self.groups for name in group}
            return {name: each for name, each in found.items() if name not in parted}, False
        for group in self.groups:
            part = {name: found[name] for name in group if name in found}
            if part:
                return part, True
        return found, False

    def sent(self, names: Iterable[str], at: float) -> None:
        """This part is on its way; what was before it had nothing to be sent."""
        names = frozenset(names)
        first = next((i for i, group in enumerate(self.groups) if not names.isdisjoint(group)), -1)
        self.groups = self.groups[first + 1 :]
        self._tried = at

    def taken(self, pending: Mapping[str, object], *, part: bool) -> None:
        """A response was accepted, one of the parts or another; ``pending`` are names that the client lacks yet."""
        if part:
            self._refused = 0
        if self.groups:
            self.groups = tuple(group for group in self.groups if any(name in pending for name in group))

    def refused(self, order: tuple[str, ...], error: str, *, part: bool) -> None:
        """A response with these names was refused, one of the parts or another; a single name is to blame itself."""
        self._refused = self._refused + 1 if part or self.groups else 1
        if len(order) > 1:
            order = order if part else tuple(sorted(order))  # those of one object are often neighbours
            self.groups = (*self.groups, *(half for half in _parts(order, error) if half))

    def changed(self, name: str) -> None:
        """There is another resource of this name: during a pause it is no matter of the search any more."""
        if self.groups and self.slow:
            left = (tuple(each for each in group if each != name) for group in self.groups)
            self.groups = tuple(group for group in left if group)


def _parts(order: tuple[str, ...], error: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to send apart after a refusal: those that the client's words name from the others, else two halves.

    Envoy says ``Error adding/updating listener(s) NAME: ...`` with a line for each. In state of the world a half would
    remove the other half from a client that came back, so the words matter there.
    """
    words = f" {' '.join(error.split())}"
    named = tuple(name for name in order if f" {name}: " in words)
    if named and len(named) < len(order):
        return tuple(name for name in order if name not in named), named
    return order[: len(order) // 2], order[len(order) // 2 :]

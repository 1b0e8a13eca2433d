"""The state of one stream, and how long it waits for what. Nothing here decides: see istiod.ads.plan and .session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from istiod.ads.bundle import Bundle, Bundles
from istiod.ads.quarantine import ANYBODY, Client, Quarantine
from istiod.ads.subscription import Flight, NamePool, Subscription
from istiod.config.resource import Resource, ResourceSet
from wire import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds (DESIGN section 5)."""

    linger: float = 60.0
    """How long a cluster stays after nothing names it: Envoy's drain time (45 s) and 15 s for requests under way."""
    patience: float = 2.0
    """How long CDS waits for its ACK before the next CDS, which alone can repair a cluster that cannot warm."""
    gate: float = 5.0
    """How long LDS and RDS wait for CDS in general."""
    hold: float = 30.0
    """How much longer they wait for the clusters that they name."""
    collect: float = 0.2
    """How long a reconnected stream may bring CDS before it counts as withheld by a warming Envoy."""
    forgo: float = 15.0
    """After how long of that its endpoints that we no longer know are emptied: else CDS would be withheld for ever."""
    stale: float = 60.0
    """From when a response without ACK makes the stream stale."""


@dataclass(slots=True, eq=False)
class Stream:
    """One stream: its target, its subscriptions by type, and what waits.

    ``linger``: cluster -> when it leaves, None before gate B. ``blocked``: (type, name) of listeners and routes that
    wait for clusters -> since when. ``returned``: the client brought state from an earlier stream. ``repeated``: its
    endpoints were sent again, since it withholds CDS.
    """

    delta: bool
    timing: Timing
    quarantine: Quarantine
    pool: NamePool
    bundles: Bundles
    target: ResourceSet
    started: float
    client: Client = ANYBODY
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    linger: Mapping[str, float | None] = field(default_factory=dict)
    blocked: Mapping[tuple[str, str], float] = field(default_factory=dict)
    returned: bool = False
    repeated: bool = False

    @property
    def clusters(self) -> Subscription | None:
        """The subscription to CDS; without one the client is no Envoy proxy, and nothing is gated."""
        return self.subscriptions.get(names.CLUSTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A response to be sent: ``items`` are new to the client, ``body`` is all of it, ``removed`` goes away.

    ``retry`` and ``warms`` are as in Flight.
    """

    type_url: str
    items: Mapping[str, Resource]
    body: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    retry: bool = False
    warms: frozenset[str] = frozenset()

    @property
    def whole(self) -> Bundle | None:
        """The body as a bundle, if it is one."""
        return self.items if isinstance(self.items, Bundle) and len(self.items) == len(self.body) else None

    def flight(self, nonce: str, now: float) -> Flight:
        """This response on its way."""
        removed = frozenset(self.removed)
        return Flight(nonce=nonce, items=self.items, removed=removed, at=now, retry=self.retry, warms=self.warms)


def warming(stream: Stream) -> frozenset[str]:
    """Endpoint names of clusters that may be warming: Envoy withholds the ACK of CDS until none is."""
    clusters = stream.clusters
    if clusters is None:
        return frozenset()
    return frozenset().union(*(flight.warms for flight in clusters.flights))

"""What the control plane counts while it runs, under the names of the stock Pilot dashboard (features row D20).

Counters only: what can be read off the parts at the moment of a scrape is metrics.py's. Everything runs in the event
loop's thread, on the way of every response, so a count is a few dictionary operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from crds.key import ConfigKey
from wire.exposition import Family, Histogram, Sample, family

_SECONDS: Final = (0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
_DELAYS: Final = (0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
_BYTES: Final = (1.0, 10_000.0, 1_000_000.0, 4_000_000.0, 10_000_000.0, 40_000_000.0)
"""Istio's own bounds, so that its dashboards draw the same curves."""
_TYPES: Final = {
    "Cluster": "cds",
    "ClusterLoadAssignment": "eds",
    "Listener": "lds",
    "RouteConfiguration": "rds",
    "Secret": "sds",
}
_REGISTRY: Final = {"Service": "Services", "EndpointSlice": "EndpointSlice", "Pod": "Pods", "Node": "Nodes"}
_TRIGGERS: Final = {"EndpointSlice": "endpoint", "Pod": "endpoint", "Service": "service", "Secret": "secret"}
_MESH_CONFIG: Final = "ConfigMap"


def short(type_url: str) -> str:
    """The label ``type`` of an xDS type: cds, eds, lds, rds, sds, else the message's name."""
    name = type_url.rpartition(".")[2]
    return _TYPES.get(name, name)


@dataclass(slots=True)
class Counts:
    """The counters of one process."""

    pushes: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    secretless: int = 0
    writing: dict[str, Histogram] = field(default_factory=dict)
    sizes: dict[str, Histogram] = field(default_factory=dict)
    convergence: Histogram = field(default_factory=lambda: Histogram(_DELAYS))
    triggers: Counter[str] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and what happened: add, update or delete."""
    known: set[ConfigKey] = field(default_factory=set)

    def sent(self, type_url: str, size: int, seconds: float) -> None:
        """A response of so many bytes was written within so many seconds."""
        kind = short(type_url)
        self.pushes[kind] += 1
        if kind not in self.writing:
            self.writing[kind], self.sizes[kind] = Histogram(_SECONDS), Histogram(_BYTES)
        self.writing[kind].observe(seconds)
        self.sizes[kind].observe(size)

    def lack_secret(self) -> None:
        """A proxy asked for a Secret that it does not get."""
        self.secretless += 1

    def changed(self, key: ConfigKey, *, there: bool) -> None:
        """An object came, changed, or went."""
        event = ("update" if key in self.known else "add") if there else "delete"
        (self.known.add if there else self.known.discard)(key)
        self.events[key.kind, event] += 1
        self.triggers[_trigger(key)] += 1

    def observing(self, listener: Callable[[ConfigKey], None], has: Callable[[ConfigKey], bool]) -> Callable[..., None]:
        """``listener`` of a store, with each change counted first; ``has`` is the store's."""

        def observe(key: ConfigKey) -> None:
            self.changed(key, there=has(key))
            listener(key)

        return observe

    def families(self) -> Iterator[Family]:
        """All of them, for the text of a scrape."""
        yield family("pilot_xds_pushes", "counter", "Responses sent to proxies.", *_labelled("type", self.pushes))
        yield family(
            "pilot_total_xds_rejects", "counter", "Responses that proxies refused.", Sample(value=self.refusals)
        )
        text = "Requests of proxies for Secrets that they do not get."
        yield family("pilot_sds_certificate_errors_total", "counter", text, Sample(value=self.secretless))
        yield family("pilot_push_triggers", "counter", "Why was pushed.", *_labelled("type", self.triggers))
        writing = (each for kind, held in self.writing.items() for each in held.samples(type=kind))
        yield family("pilot_xds_push_time", "histogram", "Seconds that writing a response took.", *writing)
        sizes = (each for kind, held in self.sizes.items() for each in held.samples(type=kind))
        yield family("pilot_xds_config_size_bytes", "histogram", "Sizes of responses.", *sizes)
        text = "Seconds from a proxy's new target to its last response."
        yield family("pilot_proxy_convergence_time", "histogram", text, *self.convergence.samples())
        yield from self._event_families()

    def _event_families(self) -> Iterator[Family]:
        registry: list[Sample] = []
        config: list[Sample] = []
        for (kind, event), count in sorted(self.events.items()):
            where = registry if kind in _REGISTRY else config
            where.append(Sample(value=count, labels={"type": _REGISTRY.get(kind, kind), "event": event}))
        yield family("pilot_k8s_reg_events", "counter", "Changes of services, endpoints, pods and nodes.", *registry)
        yield family("pilot_k8s_cfg_events", "counter", "Changes of configuration.", *config)


def _trigger(key: ConfigKey) -> str:
    if key.kind == _MESH_CONFIG:
        return "global"
    return _TRIGGERS.get(key.kind, "config")


def _labelled(label: str, counted: Counter[str]) -> Iterator[Sample]:
    return (Sample(value=count, labels={label: name}) for name, count in sorted(counted.items()))

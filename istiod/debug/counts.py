"""What the control plane counts while it runs, under the names of the stock Pilot dashboard (features row D20).

Counters only: what can be read off the parts at the moment of a scrape is metrics.py's. Everything runs in the event
loop's thread, on the way of every response, so a count is a few dictionary operations. No label is a proxy, a host or
anything else that callers choose (hostile-input SEC78).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from crds.key import ConfigKey
from wire.exposition import Family, Histogram, Sample, family, of

_SECONDS: Final = (0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
_DELAYS: Final = (0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
_BUILDS: Final = (0.01, 0.1, 0.5, 1.0, 3.0, 5.0)
_BYTES: Final = (1.0, 10_000.0, 1_000_000.0, 4_000_000.0, 10_000_000.0, 40_000_000.0)
"""Istio's own bounds (pilot/pkg/xds/monitoring.go), so that its dashboards draw the same curves."""
_STAGES: Final = (0.000_1, 0.001, 0.01, 0.1, 1.0, 10.0)
_LAGS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Bounds of what only we measure."""
_TYPES: Final = {
    "Cluster": "cds",
    "ClusterLoadAssignment": "eds",
    "Listener": "lds",
    "RouteConfiguration": "rds",
    "Secret": "sds",
    "NameTable": "nds",
    "TypedExtensionConfig": "ecds",
    "VirtualHost": "virtual_host",
    "routes": "routes",
    "patched": "patched",
}
_REGISTRY: Final = {"Service": "Services", "EndpointSlice": "EndpointSlice", "Pod": "Pods", "Node": "Nodes"}
_TRIGGERS: Final = {"EndpointSlice": "endpoint", "Pod": "endpoint", "Service": "service", "Secret": "secret"}
_MESH_CONFIG: Final = "ConfigMap"
_BUILD: Final = "build"
"""The stage of a push that Istio has a histogram of its own for."""


def short(type_url: str) -> str:
    """The label ``type`` of an xDS type: cds, eds, lds, rds, ...; ``other`` for what only a client may have named."""
    return _TYPES.get(type_url.rpartition(".")[2], "other")


@dataclass(slots=True)
class Counts:
    """The counters of one process."""

    pushes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    secretless: int = 0
    faults: int = 0
    unbuilt: int = 0
    writing: dict[str, Histogram] = field(default_factory=dict)
    sizes: dict[str, Histogram] = field(default_factory=dict)
    sending: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    queue: Histogram = field(default_factory=lambda: Histogram(_DELAYS))
    convergence: Histogram = field(default_factory=lambda: Histogram(_DELAYS))
    debounce: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    builds: Histogram = field(default_factory=lambda: Histogram(_BUILDS))
    stages: dict[str, Histogram] = field(default_factory=lambda: defaultdict(partial(Histogram, _STAGES)))
    lag: Histogram = field(default_factory=lambda: Histogram(_LAGS))
    triggers: Counter[str] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and what happened: add, update or delete."""
    known: set[ConfigKey] = field(default_factory=set)

    def sent(self, type_url: str, size: int, making: float, sending: float) -> None:
        """A response of so many bytes was made within so many seconds, and written within so many."""
        kind = short(type_url)
        self.pushes[kind] += 1
        if kind not in self.writing:
            self.writing[kind], self.sizes[kind] = Histogram(_SECONDS), Histogram(_BYTES)
        self.writing[kind].observe(making + sending)
        self.sizes[kind].observe(size)
        self.sending.observe(sending)
        self.stages["encode"].observe(making)
        self.stages["send"].observe(sending)

    def pushed(self, waited: float, stages: Mapping[str, float]) -> None:
        """The mesh was built and compiled: seconds since the first of its changes, and seconds by stage."""
        self.debounce.observe(waited)
        for stage, seconds in stages.items():
            self.stages[stage].observe(seconds)
        self.builds.observe(stages.get(_BUILD, 0.0))

    def refused(self, type_url: str) -> None:
        """A proxy refused a response."""
        self.refusals[short(type_url)] += 1

    def lack_secret(self) -> None:
        """A proxy asked for a Secret that it does not get."""
        self.secretless += 1

    def fault(self) -> None:
        """A bug of ours ended a stream, or a push."""
        self.faults += 1

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
        refused = _labelled("type", self.refusals)
        yield family("pilot_total_xds_rejects", "counter", "Responses that proxies refused.", *refused)
        text = "Requests of proxies for Secrets that they do not get."
        yield of("pilot_sds_certificate_errors_total", "counter", text, self.secretless)
        text = "Streams and pushes that a bug of istiod ended."
        yield of("pilot_total_xds_internal_errors", "counter", text, self.faults)
        yield of("pilot_xds_push_context_errors", "counter", "Pushes that failed.", self.unbuilt)
        yield family("pilot_push_triggers", "counter", "Why was pushed.", *_labelled("type", self.triggers))
        yield from self._event_families()
        yield from self._time_families()

    def _time_families(self) -> Iterator[Family]:
        for name, text, held, label in (
            ("pilot_xds_push_time", "Seconds that making and writing a response took.", self.writing, "type"),
            ("pilot_xds_config_size_bytes", "Sizes of responses.", self.sizes, "type"),
            ("pilot_push_stage_seconds", "Seconds that each stage of a push took.", self.stages, "stage"),
        ):
            samples = (each for kind, histogram in held.items() for each in histogram.samples(**{label: kind}))
            yield family(name, "histogram", text, *samples)
        for name, text, histogram in (
            ("pilot_xds_send_time", "Seconds until the socket had taken a response.", self.sending),
            ("pilot_proxy_queue_time", "Seconds from a proxy's new target to its turn.", self.queue),
            ("pilot_proxy_convergence_time", "Seconds from a change to a proxy's last response.", self.convergence),
            ("pilot_debounce_time", "Seconds from a change to the push that takes it in.", self.debounce),
            ("pilot_pushcontext_init_seconds", "Seconds that building the mesh took.", self.builds),
            ("pilot_event_loop_lag_seconds", "How late the event loop woke up.", self.lag),
        ):
            yield family(name, "histogram", text, *histogram.samples())

    def _event_families(self) -> Iterator[Family]:
        registry: list[Sample] = []
        config: list[Sample] = []
        updates: Counter[str] = Counter()
        for (kind, event), count in sorted(self.events.items()):
            where = registry if kind in _REGISTRY else config
            where.append(Sample(value=count, labels={"type": _REGISTRY.get(kind, kind), "event": event}))
            updates[_update(kind, event)] += count
        yield family("pilot_k8s_reg_events", "counter", "Changes of services, endpoints, pods and nodes.", *registry)
        yield family("pilot_k8s_cfg_events", "counter", "Changes of configuration.", *config)
        yield family("pilot_inbound_updates", "counter", "Changes that came in.", *_labelled("type", updates))


def _trigger(key: ConfigKey) -> str:
    if key.kind == _MESH_CONFIG:
        return "global"
    return _TRIGGERS.get(key.kind, "config")


def _update(kind: str, event: str) -> str:
    if kind == "Service":
        return "svcdelete" if event == "delete" else "svc"
    return "eds" if _TRIGGERS.get(kind) == "endpoint" else "config"


def _labelled(label: str, counted: Counter[str]) -> Iterator[Sample]:
    return (Sample(value=count, labels={label: name}) for name, count in sorted(counted.items()))

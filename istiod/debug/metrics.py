"""``/metrics``: what the stock Pilot dashboard reads (features row D20), as the process stands at the scrape."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import platform
import re
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crds.diagnostic import Code, Diagnostic
from istiod.debug.counts import Counts, short
from istiod.debug.gauges import Mesh
from wire import exposition, names
from wire.exposition import Family, Sample

MOST_VERSIONS: Final = 20
"""Versions of proxies that have a series each: a proxy says itself of which version it is (hostile-input SEC78)."""
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,63}")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = pathlib.Path("/proc/self/statm")
_DESCRIPTORS: Final = pathlib.Path("/proc/self/fd")
_STARTED: Final = time.time()
_REJECTED: Final = ("cds", "eds", "lds", "rds")
_OUTBOUND: Final = "pilot_conflict_outbound_listener_"
_CONFLICTS: Final = {
    "pilot_conflict_inbound_listener": (Code.PORT_CONFLICT, ("Gateway", "Sidecar")),
    f"{_OUTBOUND}tcp_over_current_tcp": (Code.PORT_CONFLICT, ("Service", "ServiceEntry")),
    "pilot_vservice_dup_domain": (Code.DUPLICATE_HOST, ()),
    "pilot_duplicate_envoy_clusters": (Code.DUPLICATE_SUBSET, ()),
}
"""Istio's gauges of conflicts: the finding that each user gets for it, and of which kinds of objects; () is all."""
_IMPOSSIBLE: Final = (f"{_OUTBOUND}http_over_current_tcp", f"{_OUTBOUND}tcp_over_current_http")
"""HTTP and TCP share a port here, so these are always 0; the stock dashboard asks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the parts say of themselves at this moment.

    Attributes:
        proxies: Connected proxies by the version that they say they are of.
        behind: How many of them have not acknowledged all that changed.
        staleness: Seconds since the oldest change that some proxy has not acknowledged; 0 where there is none.
        refused: Type URL of each resource that a proxy refuses.
        mesh: Services and endpoints in numbers.
        virtual_services: VirtualServices in the store.
        findings: What is wrong with the configuration.
        unread: Connections that were cut since their clients did not read.
        compiled: Resources made so far, by type URL.
        kept: Compiled resources in memory.
        ends: Unix time at which a certificate of ours ends, by the name of its metrics.
    """

    proxies: Mapping[str, int] = field(default_factory=dict)
    behind: int = 0
    staleness: float = 0.0
    refused: Iterable[str] = ()
    mesh: Mesh = field(default_factory=Mesh)
    virtual_services: int = 0
    findings: Iterable[Diagnostic] = ()
    unread: int = 0
    compiled: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    ends: Mapping[str, float] = field(default_factory=dict)


def text(facts: Facts, counts: Counts, others: Iterable[Family] = ()) -> str:
    """Everything in Prometheus' text format; ``others`` are what other parts count."""
    return exposition.render((*_mesh(facts), *_streams(facts), *counts.families(), *others, *_process(), *_runtime()))


def _mesh(facts: Facts) -> Iterator[Family]:
    build = Sample(value=1, labels={"component": "pilot", "tag": names.VERSION})
    yield exposition.family("istio_build", "gauge", "The version that runs.", build)
    info = Sample(value=1, labels={"version": names.VERSION})
    yield exposition.family("pilot_info", "gauge", "The version that runs.", info)
    yield from facts.mesh.families()
    yield exposition.of("pilot_virt_services", "gauge", "VirtualServices.", facts.virtual_services)
    found = Counter((each.code, each.key.kind if each.key else "") for each in facts.findings)
    for name, (code, kinds) in _CONFLICTS.items():
        value = sum(count for (said, kind), count in found.items() if said is code and (not kinds or kind in kinds))
        yield exposition.of(name, "gauge", f"Findings {code.value}.", value)
    for name in _IMPOSSIBLE:
        yield exposition.of(name, "gauge", "Always 0: both share a port.", 0)
    for name, end in facts.ends.items():
        yield exposition.of(f"{name}_timestamp", "gauge", "Unix time at which the certificate ends.", end)
        yield exposition.of(f"{name}_seconds", "gauge", "Seconds until the certificate ends.", end - time.time())


def _streams(facts: Facts) -> Iterator[Family]:
    proxies = (Sample(value=count, labels={"version": version}) for version, count in _versions(facts.proxies))
    yield exposition.family("pilot_xds", "gauge", "Connected proxies.", *proxies)
    text = "Connected proxies that have not acknowledged all that changed."
    yield exposition.of("pilot_stale_proxies", "gauge", text, facts.behind)
    text = "Seconds since the oldest change that some proxy has not acknowledged."
    yield exposition.of("pilot_staleness_seconds", "gauge", text, facts.staleness)
    refused = Counter(short(each) for each in facts.refused)
    for kind in _REJECTED:
        yield exposition.of(f"pilot_xds_{kind}_reject", "gauge", "Resources that proxies refuse.", refused[kind])
    text = "Connections that were cut since their clients did not read."
    yield exposition.of("pilot_xds_write_timeout", "counter", text, facts.unread)
    made: Counter[str] = Counter()
    for type_url, count in facts.compiled.items():
        made[short(type_url)] += count
    compiled = (Sample(value=count, labels={"type": kind}) for kind, count in sorted(made.items()))
    yield exposition.family("pilot_compiled_resources_total", "counter", "Resources that were made.", *compiled)
    yield exposition.of("xds_cache_size", "gauge", "Compiled resources in memory.", facts.kept)


def _versions(proxies: Mapping[str, int]) -> list[tuple[str, int]]:
    """Proxies by version: the most frequent, and all others as ``other``."""
    counted: Counter[str] = Counter()
    for version, count in proxies.items():
        counted[version if _VERSION.fullmatch(version) else "unknown"] += count
    kept = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    others = sum(count for _, count in kept[MOST_VERSIONS:])
    return [*sorted(kept[:MOST_VERSIONS]), *([("other", others)] if others else [])]


def _process() -> Iterator[Family]:
    size, resident = (int(part) * _PAGE for part in _STATM.read_text().split()[:2])
    yield exposition.of("process_cpu_seconds_total", "counter", "CPU used.", time.process_time())
    yield exposition.of("process_resident_memory_bytes", "gauge", "Resident memory.", resident)
    yield exposition.of("process_virtual_memory_bytes", "gauge", "Address space.", size)
    yield exposition.of("process_start_time_seconds", "gauge", "Unix time of the start.", _STARTED)
    yield exposition.of("process_open_fds", "gauge", "Open files.", sum(1 for _ in _DESCRIPTORS.iterdir()))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield exposition.of("process_max_fds", "gauge", "How many files may be open.", most)


def _runtime() -> Iterator[Family]:
    """Python's own, under the names that its Prometheus client uses."""
    major, minor, patch = platform.python_version_tuple()
    said = {"implementation": platform.python_implementation(), "major": major, "minor": minor, "patchlevel": patch}
    python = Sample(value=1, labels={**said, "version": platform.python_version()})
    yield exposition.family("python_info", "gauge", "The Python that runs.", python)
    yield exposition.of("python_asyncio_tasks", "gauge", "Tasks of the event loop.", _tasks())
    generations = [(str(number), held) for number, held in enumerate(gc.get_stats())]
    for name, key, text in (
        ("python_gc_objects_collected_total", "collected", "Objects that were collected."),
        ("python_gc_objects_uncollectable_total", "uncollectable", "Objects that could not be."),
        ("python_gc_collections_total", "collections", "Looks of the garbage collector."),
    ):
        samples = (Sample(value=held[key], labels={"generation": number}) for number, held in generations)
        yield exposition.family(name, "counter", text, *samples)


def _tasks() -> int:
    """Tasks of the running loop; 0 where there is none."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0

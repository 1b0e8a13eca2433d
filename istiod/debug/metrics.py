"""``/metrics``: what the stock Pilot dashboard reads (features row D20), as the process stands at the scrape."""

from __future__ import annotations

import os
import pathlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crds.diagnostic import Code, Diagnostic
from istiod.debug.counts import Counts, short
from wire import exposition, names
from wire.exposition import Family, Sample

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = pathlib.Path("/proc/self/statm")
_DESCRIPTORS: Final = pathlib.Path("/proc/self/fd")
_STARTED: Final = time.time()
_REJECTED: Final = ("cds", "eds", "lds", "rds")
_CONFLICTS: Final = {
    "pilot_conflict_outbound_listener_tcp_over_current_tcp": Code.PORT_CONFLICT,
    "pilot_vservice_dup_domain": Code.DUPLICATE_HOST,
    "pilot_duplicate_envoy_clusters": Code.DUPLICATE_SUBSET,
}
"""Istio's gauges of conflicts, and the finding that each user gets for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the parts say of themselves at this moment.

    Attributes:
        proxies: Connected proxies by the version that they say they are of.
        refused: Type URL of each resource that a proxy refuses.
        services: Services of the mesh.
        findings: What is wrong with the configuration.
        root_expires: Unix time at which the CA's root ends; None where there is no CA.
    """

    proxies: Mapping[str, int]
    refused: Iterable[str]
    services: int
    findings: Iterable[Diagnostic]
    root_expires: float | None = None


def text(facts: Facts, counts: Counts, others: Iterable[Family] = ()) -> str:
    """Everything in Prometheus' text format; ``others`` are what other parts count."""
    return exposition.render((*_mesh(facts), *counts.families(), *others, *_process()))


def _mesh(facts: Facts) -> Iterator[Family]:
    build = Sample(value=1, labels={"component": "pilot", "tag": names.VERSION})
    yield exposition.family("istio_build", "gauge", "The version that runs.", build)
    proxies = (Sample(value=count, labels={"version": version}) for version, count in sorted(facts.proxies.items()))
    yield exposition.family("pilot_xds", "gauge", "Connected proxies.", *proxies)
    yield exposition.of("pilot_services", "gauge", "Services of the mesh.", facts.services)
    refused = Counter(short(each) for each in facts.refused)
    for kind in _REJECTED:
        yield exposition.of(f"pilot_xds_{kind}_reject", "gauge", "Resources that proxies refuse.", refused[kind])
    found = Counter(each.code for each in facts.findings)
    for name, code in _CONFLICTS.items():
        yield exposition.of(name, "gauge", f"Findings {code.value}.", found[code])
    if facts.root_expires is not None:
        label = "citadel_server_root_cert_expiry_timestamp"
        yield exposition.of(label, "gauge", "Unix time at which the root ends.", facts.root_expires)
        left = facts.root_expires - time.time()
        yield exposition.of("citadel_server_root_cert_expiry_seconds", "gauge", "Seconds until the root ends.", left)


def _process() -> Iterator[Family]:
    size, resident = (int(part) * _PAGE for part in _STATM.read_text().split()[:2])
    yield exposition.of("process_cpu_seconds_total", "counter", "CPU used.", time.process_time())
    yield exposition.of("process_resident_memory_bytes", "gauge", "Resident memory.", resident)
    yield exposition.of("process_virtual_memory_bytes", "gauge", "Address space.", size)
    yield exposition.of("process_start_time_seconds", "gauge", "Unix time of the start.", _STARTED)
    yield exposition.of("process_open_fds", "gauge", "Open files.", sum(1 for _ in _DESCRIPTORS.iterdir()))

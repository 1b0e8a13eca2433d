"""What the agent counts about itself, under the names of Istio's agent (``istio_agent_...``; features row C8)."""

from __future__ import annotations

import os
import pathlib
import time
from dataclasses import dataclass, field
from typing import Final

from wire import exposition
from wire.exposition import Family, Sample

_STATM: Final = pathlib.Path("/proc/self/statm")
ENVOY: Final = "envoy"
APPLICATION: Final = "application"


@dataclass(slots=True)
class Metrics:
    """Counters of one agent, raised where things happen.

    Attributes:
        version: For ``istio_build``.
        started: Unix time of the start, seconds.
        ready_after: Seconds from the start until the proxy was ready for the first time; None before.
        scrapes: Answers of /stats/prometheus.
        failures: Parts of such answers that could not be had, by whose they were.
        requests: Certificates asked for.
        refused: Certificates asked for in vain.
        expires: Unix time at which the present certificate ends; None before the first.
        alarm: Whether less than a quarter of its life is left.
        ahead: Seconds by which the CA's clock was ahead of ours when it gave that certificate; None before the first.
    """

    version: str
    started: float = field(default_factory=time.time)
    ready_after: float | None = None
    scrapes: int = 0
    failures: dict[str, int] = field(default_factory=lambda: {ENVOY: 0, APPLICATION: 0})
    requests: int = 0
    refused: int = 0
    expires: float | None = None
    alarm: bool = False
    ahead: float | None = None

    def ready(self) -> None:
        """The proxy is ready; the first time counts."""
        if self.ready_after is None:
            self.ready_after = time.time() - self.started

    def text(self) -> str:
        """All of them in Prometheus' text format."""
        return exposition.render((*self._counted(), *self._measured()))

    def _counted(self) -> tuple[Family, ...]:
        failures = tuple(Sample(value=count, labels={"type": whose}) for whose, count in self.failures.items())
        csr = {"request_type": "csr"}
        return (
            exposition.of("istio_agent_scrapes_total", "counter", "Scrapes of the merged metrics.", self.scrapes),
            exposition.family(
                "istio_agent_scrape_failures_total", "counter", "Parts of a scrape that failed.", *failures
            ),
            exposition.family(
                "istio_agent_num_outgoing_requests",
                "counter",
                "Requests to the CA.",
                Sample(value=self.requests, labels=csr),
            ),
            exposition.family(
                "istio_agent_num_failed_outgoing_requests",
                "counter",
                "Requests to the CA that failed.",
                Sample(value=self.refused, labels=csr),
            ),
        )

    def _measured(self) -> tuple[Family, ...]:
        build = Sample(value=1, labels={"component": "agent", "tag": self.version})
        found = [
            exposition.family("istio_build", "gauge", "The version that runs.", build),
            exposition.of("istio_agent_process_start_time_seconds", "gauge", "Unix time of the start.", self.started),
            exposition.of("istio_agent_process_cpu_seconds_total", "counter", "CPU used.", time.process_time()),
            exposition.of("istio_agent_process_resident_memory_bytes", "gauge", "Resident memory.", _resident()),
        ]
        if self.ready_after is not None:
            text = "Seconds until the proxy was ready."
            found.append(exposition.of("istio_agent_startup_duration_seconds", "gauge", text, self.ready_after))
        if self.expires is not None:
            left = Sample(value=self.expires - time.time(), labels={"resource_name": "default"})
            found.append(exposition.family("istio_agent_cert_expiry_seconds", "gauge", "Seconds left.", left))
            text = "1 once less than a quarter of the certificate's life is left."
            found.append(exposition.of("istio_agent_cert_expiry_alarm", "gauge", text, self.alarm))
        if self.ahead is not None:
            text = "Seconds by which the CA's clock is ahead of this pod's."
            found.append(exposition.of("istio_agent_ca_clock_offset_seconds", "gauge", text, self.ahead))
        return tuple(found)


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

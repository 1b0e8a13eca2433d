"""What the webhooks count, under Istio's names (features row D20).

Everything is counted in the event loop; what a process beside it has judged comes back with its answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from wire.exposition import Family, Histogram, Sample, family, of

_SECONDS: Final = (0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
"""Istio's own bounds, so that its dashboards draw the same curves."""


class Injection(Enum):
    """What became of a pod under admission."""

    SUCCESS = "success"
    FAILURE = "failure"
    SKIP = "skip"
    """It passed untouched: what is no new pod, or one that is not to be injected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of a configuration object. ``reason`` is Istio's word for why it was refused; "" where it was not."""

    group: str
    version: str
    resource: str
    reason: str = ""


@dataclass(slots=True)
class Counts:
    """The counters of one process: ``requests`` and ``seconds`` of injection, ``errors`` of validation by status."""

    requests: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    injections: Counter[Injection] = field(default_factory=Counter)
    judged: Counter[Judgement] = field(default_factory=Counter)
    errors: Counter[int] = field(default_factory=Counter)

    def families(self) -> Iterator[Family]:
        """All of them, for the text of a scrape."""
        yield of("sidecar_injection_requests_total", "counter", "Requests for injection.", self.requests)
        for outcome, text in (
            (Injection.SUCCESS, "Pods that were injected."),
            (Injection.FAILURE, "Requests for injection that failed or were refused."),
            (Injection.SKIP, "Requests for injection that nothing was to be done for."),
        ):
            yield of(f"sidecar_injection_{outcome.value}_total", "counter", text, self.injections[outcome])
        text = "Seconds that requests for injection took."
        yield family("sidecar_injection_time_seconds", "histogram", text, *self.seconds.samples())
        passed, failed = (
            [_sample(each, count) for each, count in self.judged.items() if bool(each.reason) is refused]
            for refused in (False, True)
        )
        yield family("galley_validation_passed", "counter", "Objects that are valid.", *passed)
        yield family("galley_validation_failed", "counter", "Objects that are not.", *failed)
        errors = (Sample(value=count, labels={"status": str(status)}) for status, count in self.errors.items())
        text = "Requests for validation that were answered with another status than 200."
        yield family("galley_validation_http_error", "counter", text, *errors)


def _sample(judged: Judgement, count: int) -> Sample:
    labels = {"group": judged.group, "version": judged.version, "resource": judged.resource}
    return Sample(value=count, labels={**labels, "reason": judged.reason} if judged.reason else labels)

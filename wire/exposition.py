"""Prometheus' text format 0.0.4, as istiod and the agent write it: families of samples in, one text out. Pure.

Source: Prometheus documentation, "Exposition formats". Collecting the numbers is each program's own affair; a client
library would bring a process-wide registry and its own threads for what is one function.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One number. ``suffix`` is what a histogram appends to the family's name: ``_bucket``, ``_sum``, ``_count``."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: ``kind`` is counter, gauge or histogram."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


class Histogram:
    """Observations in buckets."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Ascending upper bounds; one without end is added."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, **labels: str) -> Iterator[Sample]:
        """Cumulative buckets, sum and count, with these labels."""
        seen = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            seen += count
            text = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield Sample(suffix="_bucket", labels={**labels, "le": text}, value=seen)
        yield Sample(suffix="_sum", labels=labels, value=self._sum)
        yield Sample(suffix="_count", labels=labels, value=seen)


def of(name: str, kind: str, text: str, value: float) -> Family:
    """A metric with one number and no labels."""
    return family(name, kind, text, Sample(value=value))


def family(name: str, kind: str, text: str, *samples: Sample) -> Family:
    """A metric with these numbers."""
    return Family(name=name, kind=kind, help=text, samples=samples)


def render(families: Iterable[Family]) -> str:
    """The text, ending with a line feed; empty for no families."""
    return "".join(_text(each) for each in families)


def _text(of_one: Family) -> str:
    head = f"# HELP {of_one.name} {_line(of_one.help)}\n# TYPE {of_one.name} {of_one.kind}\n"
    return head + "".join(f"{of_one.name}{_sample(sample)}\n" for sample in of_one.samples)


def _line(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _sample(sample: Sample) -> str:
    said = labels(sample.labels)
    return f"{sample.suffix}{{{said}}} {number(sample.value)}" if said else f"{sample.suffix} {number(sample.value)}"


def labels(of_sample: Mapping[str, str]) -> str:
    """Labels as they stand between braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in of_sample.items())


def number(value: float) -> str:
    """Go's spelling of infinity and not-a-number; whole numbers without a fraction."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))

"""Durations as Go and the Kubernetes API write them: "1h2m3.5s", "300ms".

One annotated type for every model, so that a bad duration is a finding with a field path and not a surprise later.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, PlainSerializer, PlainValidator

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST_TEXT: Final = 64
_LONGEST: Final = 2**63 - 1  # nanoseconds: time.Duration is an int64


class Rounded(timedelta):
    """A duration that was written finer than a microsecond. It is equal to what it was rounded to."""

    __slots__ = ()


def parse(text: str) -> timedelta:
    """The duration that Go's time.ParseDuration reads in ``text``, rounded to microseconds; Rounded where that matters.

    Raises:
        ValueError: the text is no Go duration.
    """
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return timedelta()
    if not body or len(body) > _LONGEST_TEXT:
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} is no duration such as 1.5s or 300ms")
    total, end = 0, 0
    while end < len(body):
        part = _PART.match(body, end)
        if part is None or not (part[1] or part[2]):
            raise ValueError(f"{text!r} is no duration such as 1.5s or 300ms")
        unit, fraction = _NANOSECONDS[part[3]], part[2] or ""
        total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        end = part.end()
    if total > _LONGEST:
        raise ValueError(f"{text!r} is longer than the 292 years a duration can hold")
    microseconds = (total + 500) // 1000
    made = Rounded if total % 1000 else timedelta
    return made(microseconds=-microseconds if text[0] == "-" else microseconds)


def is_whole(value: timedelta, unit: timedelta) -> bool:
    """Whether a duration, as it was written, is so many of a unit."""
    return not isinstance(value, Rounded) and not value % unit


def text(value: timedelta) -> str:
    """A duration in seconds, as protobuf's JSON form and Go both read it: ``1.5s``."""
    whole, rest = divmod(abs(value), timedelta(seconds=1))
    sign = "-" if value < timedelta() else ""
    fraction = f".{rest.microseconds:06d}".rstrip("0").rstrip(".")
    return f"{sign}{whole}{fraction}s"


def _validate(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration is a string such as 1.5s or 300ms")  # noqa: TRY004 (pydantic collects ValueError)
    return parse(value)


Duration = Annotated[timedelta, PlainValidator(_validate), PlainSerializer(text, return_type=str)]
"""A field that holds a duration."""


_LONGEST_TIMER: Final = timedelta(seconds=2**31 - 1)


def _as_timer(value: timedelta) -> timedelta:
    if not timedelta() <= value <= _LONGEST_TIMER:
        raise ValueError(f"{text(value)} is not from 0s to {text(_LONGEST_TIMER)}")
    return value


Timer = Annotated[Duration, AfterValidator(_as_timer)]
"""A duration that becomes a timer or a count of seconds: none is negative, none longer than 68 years."""

"""Faults, retries and mirrors of one HTTP rule (features rows F12-F14)."""

from __future__ import annotations

from typing import Final

from crds.checks import values
from crds.checks.findings import Findings
from crds.virtual_service import Abort, Delay, HTTPRetry, HTTPRoute, Percent

_STATUSES: Final = range(200, 600)
_CONDITIONS: Final = frozenset(
    {"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream"}
    | {"retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"}
    | {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)
"""What Envoy tries again on (x-envoy-retry-on, x-envoy-retry-grpc-on)."""
_GRPC: Final = frozenset(
    {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"}
    | {"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"}
    | {"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
)


def check(found: Findings, field: str, route: HTTPRoute) -> None:
    """Faults, retries and mirrors."""
    if route.fault is not None:
        if route.fault.delay is None and route.fault.abort is None:
            found.error(f"{field}.fault", "delay or abort must be given")
        if route.fault.delay is not None:
            _delay(found, f"{field}.fault.delay", route.fault.delay)
        if route.fault.abort is not None:
            _abort(found, f"{field}.fault.abort", route.fault.abort)
    if route.retries is not None:
        _retries(found, f"{field}.retries", route.retries)
    _mirrors(found, field, route)


def _delay(found: Findings, field: str, delay: Delay) -> None:
    found.check(f"{field}.percent", values.percent(delay.percent))
    _percentage(found, f"{field}.percentage", delay.percentage)
    if delay.fixed_delay is None:
        found.missing(f"{field}.fixedDelay")
    found.check(f"{field}.fixedDelay", values.duration(delay.fixed_delay))


def _abort(found: Findings, field: str, abort: Abort) -> None:
    found.check(f"{field}.percent", values.percent(abort.percent))
    _percentage(found, f"{field}.percentage", abort.percentage)
    if abort.http_status is not None and abort.http_status not in _STATUSES:
        found.error(f"{field}.httpStatus", f"{abort.http_status} is not in the range 200 to 599")
    if abort.grpc_status is not None and abort.grpc_status not in _GRPC:
        found.error(f"{field}.grpcStatus", f"{abort.grpc_status!r} is no gRPC status")


def _percentage(found: Findings, field: str, percentage: Percent | None) -> None:
    if percentage is not None:
        found.check(field, values.fraction(percentage.value))


def _is_status(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text[:4]) in range(100, 600)


def _retries(found: Findings, field: str, retries: HTTPRetry) -> None:
    if retries.attempts < 0:
        found.error(f"{field}.attempts", f"{retries.attempts} is negative")
    if retries.attempts == 0 and (retries.per_try_timeout is not None or retries.retry_on):
        found.error(f"{field}.attempts", "0 switches retries off; nothing else may be given")
    for each in retries.retry_on.split(",") if retries.retry_on else ():
        if each not in _CONDITIONS and not _is_status(each):
            found.error(f"{field}.retryOn", f"{each!r} is neither a condition that Envoy retries on nor an HTTP status")
    found.check(f"{field}.perTryTimeout", values.duration(retries.per_try_timeout))
    found.check(f"{field}.backoff", values.duration(retries.backoff))


def _mirrors(found: Findings, field: str, route: HTTPRoute) -> None:
    if route.mirror is not None and route.mirrors:
        found.error(f"{field}.mirrors", "excludes mirror")
    if route.mirror_percent is not None:
        found.check(f"{field}.mirrorPercent", values.percent(route.mirror_percent))
        found.warning(f"{field}.mirrorPercent", "is deprecated; use mirrorPercentage")
    shares = [(f"{field}.mirrorPercentage", route.mirror_percentage)]
    shares.extend((f"{field}.mirrors[{i}].percentage", mirror.percentage) for i, mirror in enumerate(route.mirrors))
    for place, share in shares:
        if share is not None:
            found.check(place, values.percent(share.value))

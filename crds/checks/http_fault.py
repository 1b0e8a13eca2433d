"""Faults, retries and mirrors of one HTTP rule (features rows F12-F14)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from crds.checks import values
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.virtual_service import Abort, Delay, HTTPRetry, HTTPRoute, Percent
from wire import decimal

_STATUSES: Final = range(200, 600)
_GRPC: Final = frozenset(
    {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"}
    | {"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"}
    | {"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
)
_RETRY_ON: Final = frozenset(
    {"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx"}
    | {"refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure"}
    | {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)
"""Envoy's words for x-envoy-retry-on and x-envoy-retry-grpc-on."""


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
    if delay.exponential_delay is not None:
        found.refuse(f"{field}.exponentialDelay", "is not possible; use fixedDelay")
    found.check(f"{field}.fixedDelay", values.duration(delay.fixed_delay))


def _abort(found: Findings, field: str, abort: Abort) -> None:
    found.check(f"{field}.percent", values.percent(abort.percent))
    _percentage(found, f"{field}.percentage", abort.percentage)
    if abort.http2_error is not None:
        found.refuse(f"{field}.http2Error", "is not possible; use httpStatus or grpcStatus")
    if abort.http_status is not None and abort.grpc_status is not None:
        found.error(f"{field}.grpcStatus", "excludes httpStatus")
    if abort.http_status is not None and abort.http_status not in _STATUSES:
        found.error(f"{field}.httpStatus", f"{abort.http_status} is not in the range 200 to 599")
    if abort.grpc_status is not None and abort.grpc_status not in _GRPC:
        found.error(f"{field}.grpcStatus", f"{abort.grpc_status!r} is no gRPC status")
    if abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
        found.warning(field, "says no httpStatus: nothing is aborted", Code.NO_FAULT)


def _percentage(found: Findings, field: str, percentage: Percent | None) -> None:
    if percentage is not None:
        found.check(field, values.fraction(percentage.value))


def _retries(found: Findings, field: str, retries: HTTPRetry) -> None:
    if retries.attempts < 0:
        found.error(f"{field}.attempts", f"{retries.attempts} is negative")
    more = retries.per_try_timeout is not None or retries.retry_on or retries.retry_remote_localities is not None
    if retries.attempts == 0 and more:
        found.error(f"{field}.attempts", "0 switches retries off; nothing else may be given")
    for name in retries.retry_on.split(",") if retries.retry_on else ():
        if name not in _RETRY_ON and not _is_status(name):
            found.refuse(f"{field}.retryOn", f"{name!r} is no condition for a retry and no HTTP status")
    found.check(f"{field}.perTryTimeout", values.duration(retries.per_try_timeout))
    found.check(f"{field}.backoff", values.duration(retries.backoff))


def _is_status(text: str) -> bool:
    number = decimal.number(text)
    return number is not None and number in set(HTTPStatus)


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

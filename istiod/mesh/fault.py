"""Faults that VirtualServices inject (features row F13). A missing percentage means none, as in Istio and Envoy."""

from __future__ import annotations

from typing import Final

from crds import virtual_service
from istiod.mesh.route import Abort, Delay, Fault

GRPC_STATUS: Final = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""gRPC's status names (google.rpc.Code)."""


def convert(said: virtual_service.HTTPFaultInjection | None) -> Fault | None:
    """The fault, or None when nothing can be injected."""
    if said is None:
        return None
    delay, abort = _delay(said.delay), _abort(said.abort)
    return Fault(delay=delay, abort=abort) if delay or abort else None


def _delay(said: virtual_service.Delay | None) -> Delay | None:
    if said is None or said.fixed_delay is None:
        return None
    percent = said.percentage.value if said.percentage else float(said.percent)
    return Delay(fixed=said.fixed_delay, percent=percent)


def _abort(said: virtual_service.Abort | None) -> Abort | None:
    if said is None:
        return None
    percent = said.percentage.value if said.percentage else float(said.percent) or None
    if said.http_status is not None:
        return Abort(percent=percent, http_status=said.http_status)
    if (status := GRPC_STATUS.get(said.grpc_status or "")) is not None:
        return Abort(percent=percent, grpc_status=status)
    return None

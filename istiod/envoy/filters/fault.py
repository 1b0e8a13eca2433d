"""Fault injection: idle in the chain, its faults stand in the routes (features row F13)."""

from __future__ import annotations

from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import any_pb2

from istiod.envoy import wellknown
from istiod.mesh.route import Abort, Delay, Fault

NAME = "envoy.filters.http.fault"
FILTER = hcm_pb2.HttpFilter(name=NAME, typed_config=wellknown.packed(fault_pb2.HTTPFault()))


def per_route(fault: Fault) -> any_pb2.Any:
    """The faults of one route."""
    return wellknown.packed(
        fault_pb2.HTTPFault(
            delay=_delay(fault.delay) if fault.delay else None, abort=_abort(fault.abort) if fault.abort else None
        )
    )


def _delay(delay: Delay) -> common_pb2.FaultDelay:
    return common_pb2.FaultDelay(
        fixed_delay=wellknown.duration(delay.fixed), percentage=wellknown.fraction(delay.percent)
    )


def _abort(abort: Abort) -> fault_pb2.FaultAbort:
    percentage = None if abort.percent is None else wellknown.fraction(abort.percent)
    if abort.grpc_status is not None:
        return fault_pb2.FaultAbort(grpc_status=abort.grpc_status, percentage=percentage)
    return fault_pb2.FaultAbort(http_status=abort.http_status, percentage=percentage)

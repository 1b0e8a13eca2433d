"""Header changes of routes and of weighted destinations (features row F16).

Envoy rejects changes of pseudo headers and of Host; setting the authority is a host rewrite instead, as in Istio.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2

from istiod.mesh.route import HeaderOperations, Headers

_AUTHORITY = (":authority", "host")
_NONE = Headers()
Owner: TypeAlias = route_components_pb2.Route | route_components_pb2.WeightedCluster.ClusterWeight
"""The messages that carry header changes, in fields of the same names."""


def apply(owner: Owner, headers: Headers) -> None:
    """Write the changes into ``owner``, after those that it has."""
    if headers == _NONE:  # nearly all
        return
    owner.request_headers_to_add.extend(_changes(headers.request))
    owner.request_headers_to_remove.extend(_names(headers.request.remove))
    owner.response_headers_to_add.extend(_changes(headers.response))
    owner.response_headers_to_remove.extend(_names(headers.response.remove))


def authority(headers: Headers) -> str:
    """The authority that the changes set, "" for none."""
    return next((value for name, value in headers.request.set if name.lower() in _AUTHORITY), "")


def _changes(operations: HeaderOperations) -> Iterable[base_pb2.HeaderValueOption]:
    for name, value in operations.set:
        if _changeable(name):
            yield base_pb2.HeaderValueOption(
                header=base_pb2.HeaderValue(key=name, value=value),
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
            )
    for name, value in operations.add:
        if _changeable(name):
            yield base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value))


def _names(removed: tuple[str, ...]) -> list[str]:
    return [name for name in removed if _changeable(name)]


def _changeable(name: str) -> bool:
    return not name.startswith(":") and name.lower() != "host"

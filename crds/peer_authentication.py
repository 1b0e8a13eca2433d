"""PeerAuthentication: whether workloads demand mutual TLS (features row N1).

Source: istio.security peer_authentication.proto, v1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from crds.meta import Ignored, Model, Object, WorkloadSelector


class MutualTLS(Model):
    """``UNSET`` inherits from the wider policy."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


def _port(value: object) -> object:
    """A port number as YAML writes it (a number) or as JSON must (a string); anything else is left to pydantic."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value


PortNumber = Annotated[int, BeforeValidator(_port)]


class PeerAuthenticationSpec(Model):
    """Modes of some workloads, and of single ports of them (the workload's port, not the service's)."""

    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: Mapping[PortNumber, MutualTLS] = Field(default_factory=dict)


class PeerAuthentication(Object):
    """security.istio.io PeerAuthentication."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()
    status: Ignored = None

"""What a workload shape adds for traffic that enters the app: virtualInbound and its clusters (rows S49, S51, N2)."""

from __future__ import annotations

from dataclasses import dataclass

from istiod.config.origin import Origin
from istiod.mesh.policy import MutualTls
from istiod.mesh.scope import InboundScope, ServiceRef
from istiod.mesh.service import Protocol
from istiod.mesh.settings import MeshSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """One port of the workload that a service sends to.

    ``services`` are all that target it, the one that decides protocol and names first.
    """

    target: int
    service_port: int
    protocol: Protocol
    services: tuple[ServiceRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything of a workload that its inbound configuration depends on: no pod name, no pod IP.

    ``mtls`` is the mode of every port without one of its own, ``port_mtls`` those, sorted.
    """

    ports: tuple[InboundPort, ...] = ()
    mtls: MutualTls = MutualTls.PERMISSIVE
    port_mtls: tuple[tuple[int, MutualTls], ...] = ()
    origin: Origin | None = None


def scope(shape: Shape, settings: MeshSettings) -> InboundScope:
    """Listener and clusters of a shape."""
    raise NotImplementedError

"""Sidecar: what a workload's proxy listens on and what it may reach (features rows J1-J4).

Source: istio.networking sidecar.proto, all versions.
"""

from __future__ import annotations

from typing import Literal

from crds.destination_rule import ConnectionPoolSettings
from crds.gateway import ServerTLSSettings
from crds.meta import Ignored, Model, Object, UInt32
from crds.service_entry import LabelsSelector
from crds.virtual_service import Destination

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Model):
    """A port of a listener; ``target_port`` is accepted and unused."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IstioIngressListener(Model):
    """An inbound listener (J2)."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class IstioEgressListener(Model):
    """An outbound listener, or the hosts of all (J3)."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    hosts: tuple[str, ...] = ()


class OutboundTrafficPolicy(Model):
    """What happens to traffic for unknown hosts (J4)."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class SidecarSpec(Model):
    """The scope of some workloads (J1)."""

    workload_selector: LabelsSelector | None = None
    ingress: tuple[IstioIngressListener, ...] = ()
    egress: tuple[IstioEgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class Sidecar(Object):
    """networking.istio.io Sidecar."""

    spec: SidecarSpec = SidecarSpec()
    status: Ignored = None

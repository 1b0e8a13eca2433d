"""MeshNetworks: key ``meshNetworks`` of the mesh's ConfigMap. Which networks there are is istiod.mesh.networks'.

Source: istio.mesh.v1alpha1 network.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from crds.meta import Int, Model


class NetworkEndpoints(Model):
    """Which endpoints are in a network: those in a range of addresses, or those that a cluster knows."""

    from_cidr: str = ""
    from_registry: str = ""


class IstioNetworkGateway(Model):
    """A gateway into a network: an address, or the addresses that a Service has for the outside."""

    registry_service_name: str = ""
    address: str = ""
    port: Int = 0
    locality: str = ""


class Network(Model):
    """One network."""

    endpoints: tuple[NetworkEndpoints, ...] = ()
    gateways: tuple[IstioNetworkGateway, ...] = ()


class MeshNetworks(Model):
    """All networks by name."""

    networks: Mapping[str, Network] = Field(default_factory=dict)

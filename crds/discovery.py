"""EndpointSlice: which addresses serve a Service now. Source: Kubernetes API reference, discovery.k8s.io/v1."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from crds.meta import Bool, Int, Model, Object, Opaque


class TargetRef(Model):
    """The object behind an endpoint, usually a Pod."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    field_path: str = ""
    resource_version: str = Field(default="", exclude=True)


class Conditions(Model):
    """State of an endpoint; None counts as ready and serving (API reference)."""

    ready: Bool | None = None
    serving: Bool | None = None
    terminating: Bool | None = None


class Endpoint(Model):
    """One backend with its addresses (the first is used)."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions = Conditions()
    hostname: str = ""
    target_ref: TargetRef | None = None
    node_name: str = ""
    zone: str = ""
    hints: Opaque = None
    deprecated_topology: Mapping[str, str] = Field(default_factory=dict)


class EndpointPort(Model):
    """A port of all endpoints of the slice, joined to the Service's port by name."""

    name: str = ""
    protocol: str = "TCP"
    port: Int | None = None
    app_protocol: str = ""


class EndpointSlice(Object):
    """discovery.k8s.io EndpointSlice; the Service's name is label kubernetes.io/service-name."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

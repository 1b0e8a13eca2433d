"""EnvoyFilter: patches of the Envoy configuration that the control plane makes (features rows K1-K4).

Source: istio.networking envoy_filter.proto. What a patch holds (``value``) is Envoy's own API, which is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.meta import Ignored, Int32, Model, Object, Tree, UInt32
from crds.service_entry import LabelsSelector

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
Operation = Literal[
    "INVALID",
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]
Context = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"]


class ProxyMatch(Model):
    """Which proxies: by their version (a regular expression) and metadata."""

    proxy_version: str = ""
    metadata: Mapping[str, str] = Field(default_factory=dict)


class SubFilterMatch(Model):
    """A filter inside of a network filter."""

    name: str = ""


class FilterMatch(Model):
    """A network filter."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Model):
    """A filter chain. ``transport_socket`` is accepted and unused, as on Istio."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    transport_socket: str = ""
    application_protocols: str = ""
    destination_port: UInt32 = 0
    filter: FilterMatch | None = None


class ListenerMatch(Model):
    """A listener. ``port_name`` is accepted and unused, as on Istio."""

    name: str = ""
    port_name: str = ""
    port_number: UInt32 = 0
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""


class RouteMatch(Model):
    """A route of a virtual host."""

    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class VirtualHostMatch(Model):
    """A virtual host, by its name or one of its domains."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Model):
    """A route configuration; ``port_name`` and ``gateway`` are for gateways."""

    name: str = ""
    port_name: str = ""
    port_number: UInt32 = 0
    gateway: str = ""
    vhost: VirtualHostMatch | None = None


class ClusterMatch(Model):
    """A cluster."""

    name: str = ""
    service: str = ""
    subset: str = ""
    port_number: UInt32 = 0


class ObjectMatch(Model):
    """What is patched; at most one of the objects is said (K3)."""

    context: Context = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: Tree | None = None


class Patch(Model):
    """How it is patched (K4). ``filter_class`` is accepted and unused, as on Istio."""

    operation: Operation = "INVALID"
    value: Tree | None = None
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"


class ConfigPatch(Model):
    """One patch (K2)."""

    apply_to: ApplyTo = "INVALID"
    match: ObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Model):
    """Patches for some proxies, in their order (K1)."""

    workload_selector: LabelsSelector | None = None
    target_refs: tuple[Tree, ...] = ()
    config_patches: tuple[ConfigPatch, ...] = ()
    priority: Int32 = 0


class EnvoyFilter(Object):
    """networking.istio.io EnvoyFilter."""

    spec: EnvoyFilterSpec = EnvoyFilterSpec()
    status: Ignored = None

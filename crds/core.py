"""Kubernetes core objects that the mesh reads: Service, Pod, Node, Namespace, Secret, ConfigMap, ServiceAccount.

Fields that nothing reads are kept as opaque trees, so that no object loses anything and none is refused for them.
Source: Kubernetes API reference, core/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from crds.meta import Bool, Ignored, Int, IntOrString, Model, Object, Opaque, Tree
from crds.pod_spec import PodSpec


class ServicePort(Model):
    """A port of a Service; ``target_port`` None is the same as port."""

    name: str = ""
    port: Int = 0
    target_port: IntOrString | None = None
    protocol: str = "TCP"
    app_protocol: str = ""
    node_port: Int = 0


class ServiceSpec(Model):
    """Addresses, ports and selector of a Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = Field(default="", alias="clusterIP")
    cluster_ips: tuple[str, ...] = Field(default=(), alias="clusterIPs")
    external_ips: tuple[str, ...] = Field(default=(), alias="externalIPs")
    external_name: str = ""
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = Field(default_factory=dict)
    publish_not_ready_addresses: Bool = False
    internal_traffic_policy: str = ""
    external_traffic_policy: str = ""
    traffic_distribution: str = ""
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""
    session_affinity: str = ""
    session_affinity_config: Opaque = None
    load_balancer_ip: str = Field(default="", alias="loadBalancerIP")
    load_balancer_class: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: Bool | None = None
    health_check_node_port: Int = 0


class LoadBalancerIngress(Model):
    """An address that the platform gave to a LoadBalancer."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = ""
    ports: Opaque = None


class LoadBalancerStatus(Model):
    """Addresses that the platform gave to a LoadBalancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Model):
    """What the platform says of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: Ignored = None


class Service(Object):
    """core/v1 Service."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class PodIP(Model):
    """One address of a pod."""

    ip: str = ""


class PodCondition(Model):
    """One condition of a pod."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: Ignored = None
    last_probe_time: Ignored = None
    last_transition_time: Ignored = None


class ContainerStatus(Model):
    """State of a container; ``state`` has one key: waiting, running or terminated."""

    name: str = ""
    ready: Bool = False
    started: Bool | None = None
    restart_count: Int = 0
    image: str = ""
    image_id: str = Field(default="", alias="imageID")
    container_id: str = Field(default="", alias="containerID")
    state: Opaque = None
    last_state: Opaque = None
    allocated_resources: Ignored = None
    resources: Ignored = None
    volume_mounts: Ignored = None
    user: Ignored = None
    allocated_resources_status: Ignored = None
    stop_signal: Ignored = None


class PodStatus(Model):
    """Phase, addresses and readiness of a pod."""

    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    message: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    host_ip: str = Field(default="", alias="hostIP")
    host_ips: tuple[PodIP, ...] = Field(default=(), alias="hostIPs")
    pod_ip: str = Field(default="", alias="podIP")
    pod_ips: tuple[PodIP, ...] = Field(default=(), alias="podIPs")
    start_time: Opaque = None
    qos_class: str = ""
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    resize: Ignored = None
    resource_claim_statuses: Ignored = None
    observed_generation: Ignored = None
    extended_resource_claim_status: Ignored = None
    allocated_resources: Ignored = None
    resources: Ignored = None


class Pod(Object):
    """core/v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeAddress(Model):
    """An address of a node: InternalIP, ExternalIP, Hostname."""

    type: str = ""
    address: str = ""


class NodeInfo(Model):
    """What runs on a node: the kubelet's version decides what pods there can be."""

    kubelet_version: str = ""
    architecture: Ignored = None
    boot_id: Ignored = Field(default=None, alias="bootID")
    container_runtime_version: Ignored = None
    kernel_version: Ignored = None
    kube_proxy_version: Ignored = None
    machine_id: Ignored = Field(default=None, alias="machineID")
    operating_system: Ignored = None
    os_image: Ignored = None
    swap: Ignored = None
    system_uuid: Ignored = Field(default=None, alias="systemUUID")


class NodeStatus(Model):
    """Addresses of a node; heartbeats and images are left out, since they change all the time."""

    addresses: tuple[NodeAddress, ...] = ()
    allocatable: Ignored = None
    capacity: Ignored = None
    conditions: Ignored = None
    config: Ignored = None
    daemon_endpoints: Ignored = None
    features: Ignored = None
    images: Ignored = None
    node_info: NodeInfo = NodeInfo()
    phase: Ignored = None
    runtime_handlers: Ignored = None
    volumes_attached: Ignored = None
    volumes_in_use: Ignored = None
    declared_features: Ignored = None


class NodeSpec(Model):
    """A node as the scheduler sees it."""

    pod_cidr: str = Field(default="", alias="podCIDR")
    pod_cidrs: tuple[str, ...] = Field(default=(), alias="podCIDRs")
    provider_id: str = Field(default="", alias="providerID")
    unschedulable: Bool = False
    taints: Opaque = None
    external_id: str = Field(default="", alias="externalID")
    config_source: Opaque = None


class Node(Object):
    """core/v1 Node; region and zone are labels."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Namespace(Object):
    """core/v1 Namespace."""

    spec: Tree | None = None
    status: Ignored = None


class Secret(Object):
    """core/v1 Secret: ``data`` is base64, ``string_data`` is text and wins."""

    type: str = "Opaque"
    data: Mapping[str, str] = Field(default_factory=dict, repr=False)
    string_data: Mapping[str, str] = Field(default_factory=dict, repr=False)
    immutable: Bool | None = None


class ConfigMap(Object):
    """core/v1 ConfigMap."""

    data: Mapping[str, str] = Field(default_factory=dict)
    binary_data: Mapping[str, str] = Field(default_factory=dict)
    immutable: Bool | None = None


class ServiceAccount(Object):
    """core/v1 ServiceAccount."""

    secrets: Opaque = None
    image_pull_secrets: Opaque = None
    automount_service_account_token: Bool | None = None

"""PodSpec: containers, probes, environment and volumes, for Pods and for templates of Deployments.

Source: Kubernetes API reference, core/v1. Trees that neither injection nor the local mesh reads are opaque.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from crds.meta import Bool, Int, IntOrString, Model, Opaque


class ContainerPort(Model):
    """A port that a container listens on."""

    name: str = ""
    container_port: Int = 0
    protocol: str = "TCP"
    host_port: Int = 0
    host_ip: str = Field(default="", alias="hostIP")


class ObjectFieldSelector(Model):
    """Downward API: a field of the pod."""

    api_version: str = ""
    field_path: str = ""


class ResourceFieldSelector(Model):
    """Downward API: a resource of a container."""

    container_name: str = ""
    resource: str = ""
    divisor: Opaque = None


class KeySelector(Model):
    """A key of a ConfigMap or Secret."""

    name: str = ""
    key: str = ""
    optional: Bool | None = None


class EnvVarSource(Model):
    """Where the value of a variable comes from."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    file_key_ref: Opaque = None


class EnvVar(Model):
    """An environment variable."""

    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class ObjectReference(Model):
    """A ConfigMap or Secret by name."""

    name: str = ""
    optional: Bool | None = None


class EnvFromSource(Model):
    """All keys of a ConfigMap or Secret as variables."""

    prefix: str = ""
    config_map_ref: ObjectReference | None = None
    secret_ref: ObjectReference | None = None


class HTTPHeader(Model):
    """A header of a probe."""

    name: str = ""
    value: str = ""


class HTTPGetAction(Model):
    """GET this; 2xx and 3xx are healthy."""

    path: str = ""
    port: IntOrString = 0
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(Model):
    """Connect to this port."""

    port: IntOrString = 0
    host: str = ""


class ExecAction(Model):
    """Run this in the container."""

    command: tuple[str, ...] = ()


class GRPCAction(Model):
    """Call the gRPC health service."""

    port: Int = 0
    service: str | None = None


class SleepAction(Model):
    """Wait; a lifecycle action."""

    seconds: Int = 0


class Handler(Model):
    """What a lifecycle hook does."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Probe(Model):
    """A probe of a container; times in seconds, 0 is the Kubernetes default."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: Int = 0
    timeout_seconds: Int = 1
    period_seconds: Int = 10
    success_threshold: Int = 1
    failure_threshold: Int = 3
    termination_grace_period_seconds: Int | None = None


class Lifecycle(Model):
    """Hooks after start and before stop."""

    post_start: Handler | None = None
    pre_stop: Handler | None = None
    stop_signal: str = ""


class VolumeMount(Model):
    """A volume at a path of the container."""

    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: Bool = False
    mount_propagation: str | None = None
    recursive_read_only: str | None = None


class SecurityContext(Model):
    """User, group and rights of a container."""

    run_as_user: Int | None = None
    run_as_group: Int | None = None
    run_as_non_root: Bool | None = None
    privileged: Bool | None = None
    allow_privilege_escalation: Bool | None = None
    read_only_root_filesystem: Bool | None = None
    capabilities: Opaque = None
    se_linux_options: Opaque = None
    seccomp_profile: Opaque = None
    app_armor_profile: Opaque = None
    proc_mount: str | None = None
    windows_options: Opaque = None


class PodSecurityContext(Model):
    """User, group and rights of all containers."""

    run_as_user: Int | None = None
    run_as_group: Int | None = None
    run_as_non_root: Bool | None = None
    fs_group: Int | None = None
    fs_group_change_policy: str | None = None
    supplemental_groups: tuple[Int, ...] = ()
    supplemental_groups_policy: str | None = None
    sysctls: Opaque = None
    se_linux_options: Opaque = None
    se_linux_change_policy: str | None = None
    seccomp_profile: Opaque = None
    app_armor_profile: Opaque = None
    windows_options: Opaque = None


class Container(Model):
    """One container."""

    name: str = ""
    image: str = ""
    image_pull_policy: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    resources: Opaque = None
    resize_policy: Opaque = None
    restart_policy: str | None = None
    restart_policy_rules: Opaque = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    volume_devices: Opaque = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    security_context: SecurityContext | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    stdin: Bool = False
    stdin_once: Bool = False
    tty: Bool = False
    target_container_name: str = ""


class PodDNSOption(Model):
    """An option of resolv.conf."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(Model):
    """DNS settings of a pod."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSOption, ...] = ()


class HostAlias(Model):
    """An entry of /etc/hosts."""

    ip: str = ""
    hostnames: tuple[str, ...] = ()


class PodSpec(Model):
    """What runs in a pod, and as whom. ``volumes`` are trees: name plus one source."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: Bool | None = None
    node_name: str = ""
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    host_network: Bool = False
    host_pid: Bool = Field(default=False, alias="hostPID")
    host_ipc: Bool = Field(default=False, alias="hostIPC")
    host_users: Bool | None = None
    hostname: str = ""
    hostname_override: str | None = None
    subdomain: str = ""
    set_hostname_as_fqdn: Bool | None = Field(default=None, alias="setHostnameAsFQDN")
    volumes: tuple[Mapping[str, Opaque], ...] = ()
    restart_policy: str = ""
    termination_grace_period_seconds: Int | None = None
    active_deadline_seconds: Int | None = None
    dns_policy: str = ""
    dns_config: PodDNSConfig | None = None
    host_aliases: tuple[HostAlias, ...] = ()
    security_context: PodSecurityContext | None = None
    share_process_namespace: Bool | None = None
    enable_service_links: Bool | None = None
    image_pull_secrets: Opaque = None
    affinity: Opaque = None
    tolerations: Opaque = None
    topology_spread_constraints: Opaque = None
    scheduler_name: str = ""
    scheduling_gates: Opaque = None
    priority_class_name: str = ""
    priority: Int | None = None
    preemption_policy: str | None = None
    readiness_gates: Opaque = None
    runtime_class_name: str | None = None
    overhead: Opaque = None
    os: Opaque = None
    resource_claims: Opaque = None
    resources: Opaque = None
    workload_ref: Opaque = None

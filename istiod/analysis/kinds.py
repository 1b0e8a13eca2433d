"""The kinds that analyzers look at, where an API server has them, and which of them have no namespace."""

from __future__ import annotations

from typing import Final, NamedTuple

_NETWORKING: Final = "networking.istio.io"
_SECURITY: Final = "security.istio.io"
_GATEWAY_API: Final = "gateway.networking.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"


class Kind(NamedTuple):
    """A kind by its API group, in whichever version."""

    group: str
    name: str


VIRTUAL_SERVICE: Final = Kind(_NETWORKING, "VirtualService")
DESTINATION_RULE: Final = Kind(_NETWORKING, "DestinationRule")
GATEWAY: Final = Kind(_NETWORKING, "Gateway")
SERVICE_ENTRY: Final = Kind(_NETWORKING, "ServiceEntry")
WORKLOAD_ENTRY: Final = Kind(_NETWORKING, "WorkloadEntry")
WORKLOAD_GROUP: Final = Kind(_NETWORKING, "WorkloadGroup")
SIDECAR: Final = Kind(_NETWORKING, "Sidecar")
ENVOY_FILTER: Final = Kind(_NETWORKING, "EnvoyFilter")
PROXY_CONFIG: Final = Kind(_NETWORKING, "ProxyConfig")
AUTHORIZATION_POLICY: Final = Kind(_SECURITY, "AuthorizationPolicy")
PEER_AUTHENTICATION: Final = Kind(_SECURITY, "PeerAuthentication")
REQUEST_AUTHENTICATION: Final = Kind(_SECURITY, "RequestAuthentication")
TELEMETRY: Final = Kind("telemetry.istio.io", "Telemetry")
WASM_PLUGIN: Final = Kind("extensions.istio.io", "WasmPlugin")
KUBERNETES_GATEWAY: Final = Kind(_GATEWAY_API, "Gateway")
HTTP_ROUTE: Final = Kind(_GATEWAY_API, "HTTPRoute")
GRPC_ROUTE: Final = Kind(_GATEWAY_API, "GRPCRoute")
NAMESPACE: Final = Kind("", "Namespace")
NODE: Final = Kind("", "Node")
POD: Final = Kind("", "Pod")
SERVICE: Final = Kind("", "Service")
SECRET: Final = Kind("", "Secret")
CONFIG_MAP: Final = Kind("", "ConfigMap")
DEPLOYMENT: Final = Kind("apps", "Deployment")
CRON_JOB: Final = Kind("batch", "CronJob")
WORKLOADS: Final = frozenset(
    (
        DEPLOYMENT,
        *(Kind("apps", name) for name in ("StatefulSet", "DaemonSet", "ReplicaSet")),
        *(Kind("", "ReplicationController"), Kind("batch", "Job"), CRON_JOB),
    )
)
"""What makes pods of a template."""
DEFINITION: Final = Kind("apiextensions.k8s.io", "CustomResourceDefinition")
MUTATING_WEBHOOK: Final = Kind(_ADMISSION, "MutatingWebhookConfiguration")
VALIDATING_WEBHOOK: Final = Kind(_ADMISSION, "ValidatingWebhookConfiguration")

CLUSTER_SCOPED: Final = frozenset((NAMESPACE, NODE, DEFINITION, MUTATING_WEBHOOK, VALIDATING_WEBHOOK))
ISTIO: Final = (
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    GATEWAY,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    WORKLOAD_GROUP,
    SIDECAR,
    ENVOY_FILTER,
    PROXY_CONFIG,
    AUTHORIZATION_POLICY,
    PEER_AUTHENTICATION,
    REQUEST_AUTHENTICATION,
    TELEMETRY,
    WASM_PLUGIN,
)
"""Kinds of Istio's own API: of them a control plane reads those of its revision only."""

SERVED: Final[dict[Kind, str]] = {
    VIRTUAL_SERVICE: "v1/virtualservices",
    DESTINATION_RULE: "v1/destinationrules",
    GATEWAY: "v1/gateways",
    SERVICE_ENTRY: "v1/serviceentries",
    WORKLOAD_ENTRY: "v1/workloadentries",
    WORKLOAD_GROUP: "v1/workloadgroups",
    SIDECAR: "v1/sidecars",
    ENVOY_FILTER: "v1alpha3/envoyfilters",
    PROXY_CONFIG: "v1beta1/proxyconfigs",
    AUTHORIZATION_POLICY: "v1/authorizationpolicies",
    PEER_AUTHENTICATION: "v1/peerauthentications",
    REQUEST_AUTHENTICATION: "v1/requestauthentications",
    TELEMETRY: "v1/telemetries",
    WASM_PLUGIN: "v1alpha1/wasmplugins",
    KUBERNETES_GATEWAY: "v1/gateways",
    HTTP_ROUTE: "v1/httproutes",
    GRPC_ROUTE: "v1/grpcroutes",
    NAMESPACE: "v1/namespaces",
    NODE: "v1/nodes",
    POD: "v1/pods",
    SERVICE: "v1/services",
    SECRET: "v1/secrets",
    CONFIG_MAP: "v1/configmaps",
    DEPLOYMENT: "v1/deployments",
    DEFINITION: "v1/customresourcedefinitions",
    MUTATING_WEBHOOK: "v1/mutatingwebhookconfigurations",
    VALIDATING_WEBHOOK: "v1/validatingwebhookconfigurations",
}
"""Version and plural of each kind in the API."""

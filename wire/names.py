"""Names, ports and type URLs that the control plane, the agent and the user's YAML share.

One place, because a label spelled differently on two sides is a silent failure. Sources: Istio's label and annotation
reference, Envoy's xDS protocol document.
"""

from __future__ import annotations

from typing import Final

RUNTIME_LONGEST_PATTERN: Final = "re2.max_program_size.error_level"
LONGEST_PATTERN: Final = "32768"
"""Its value in every bootstrap: Envoy's 100 refuses quite ordinary patterns of users."""
TYPE_PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = TYPE_PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT: Final = TYPE_PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = TYPE_PREFIX + "envoy.config.listener.v3.Listener"
ROUTE: Final = TYPE_PREFIX + "envoy.config.route.v3.RouteConfiguration"
BOOTSTRAP: Final = TYPE_PREFIX + "envoy.config.bootstrap.v3.Bootstrap"
EXTENSION: Final = TYPE_PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
NAME_TABLE: Final = TYPE_PREFIX + "istio.networking.nds.v1.NameTable"
SECRET: Final = TYPE_PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"

PROXY_OUTBOUND_PORT: Final = 15001
PROXY_INBOUND_PORT: Final = 15006
PROXY_TUNNEL_PORT: Final = 15008
ADMIN_PORT: Final = 15000
STATUS_PORT: Final = 15020
READINESS_PORT: Final = 15021
PROMETHEUS_PORT: Final = 15090
XDS_PLAINTEXT_PORT: Final = 15010
XDS_MTLS_PORT: Final = 15011
CA_PORT: Final = 15012
DEBUG_PORT: Final = 15014
PROXY_UID: Final = 1337
INBOUND_BIND_ADDRESS: Final = "127.0.0.6"
INBOUND_BIND_ADDRESS_IPV6: Final = "::6"

DRAIN_UNTIL_ACKNOWLEDGED: Final = "DRAIN_UNTIL_ACKNOWLEDGED"
"""Proxy metadata: "true" lets a pod end only when nobody sends to it any more (features row Z5). Ours, not Istio's."""
GRACE_PERIOD: Final = "POD_TERMINATION_GRACE_PERIOD_SECONDS"
"""Variable of the agent: how long its pod may take to end, as injection knows it."""
RELEASED_PATH: Final = "/released"
"""Of the agent's status port: answers when nobody sends to the pod any more; what hooks of its containers wait for."""

SDS_SOCKET: Final = "./var/run/secrets/workload-spiffe-uds/socket"
BACKDATING_SECONDS: Final = 600
"""How far our CA dates certificates back, for peers whose clocks are behind (fault FT33)."""
BOOTSTRAP_XDS_AGENT: Final = "BOOTSTRAP_XDS_AGENT"
"""Variable of the agent, "true": it asks for patches of its Envoy's bootstrap. Of a node's metadata: it does."""
BOOTSTRAP_PATCHES: Final = "patches"
"""The resource that it asks for: a Bootstrap that is to be merged into its own."""
RESOURCE_WORKLOAD: Final = "default"
RESOURCE_ROOT: Final = "ROOTCA"
CLUSTER_XDS: Final = "xds-grpc"
CLUSTER_SDS: Final = "sds-grpc"
CREDENTIAL_SOCKET: Final = "./var/run/secrets/credential-uds/socket"
"""Where somebody may serve the keys of gateways to Envoy: those of credentials that begin with EXTERNAL_CREDENTIAL."""
CLUSTER_CREDENTIALS: Final = "sds-external"
METADATA_CREDENTIAL: Final = "credential"
"""Of a node, "true": there is such a socket in its pod."""
EXTERNAL_CREDENTIAL: Final = "sds://"

LABEL_TLS_MODE: Final = "security.istio.io/tlsMode"
LABEL_CANONICAL_NAME: Final = "service.istio.io/canonical-name"
LABEL_CANONICAL_REVISION: Final = "service.istio.io/canonical-revision"
LABEL_WORKLOAD_NAME: Final = "service.istio.io/workload-name"
LABEL_NETWORK: Final = "topology.istio.io/network"
LABEL_GATEWAY_PORT: Final = "networking.istio.io/gatewayPort"
LABEL_SUBZONE: Final = "topology.istio.io/subzone"
LABEL_REGION: Final = "topology.kubernetes.io/region"
LABEL_ZONE: Final = "topology.kubernetes.io/zone"
LABEL_HOSTNAME: Final = "kubernetes.io/hostname"
ANNOTATION_GATEWAY_SERVICE: Final = "internal.istio.io/gateway-service"
LABEL_KEEP_PORTS: Final = "experimental.istio.io/disable-gateway-port-translation"
LABEL_CLUSTER: Final = "topology.istio.io/cluster"
LABEL_SERVICE_NAME: Final = "kubernetes.io/service-name"
LABEL_SLICE_MANAGER: Final = "endpointslice.kubernetes.io/managed-by"
SLICE_CONTROLLER: Final = "endpointslice-controller.k8s.io"
"""Who keeps the EndpointSlices of Services with a selector."""
LABEL_REVISION: Final = "istio.io/rev"
ANNOTATION_TEMPLATES: Final = "inject.istio.io/templates"
ANNOTATION_EXPORT_TO: Final = "networking.istio.io/exportTo"
ANNOTATION_TRAFFIC_DISTRIBUTION: Final = "networking.istio.io/traffic-distribution"

ROOT_NAMESPACE: Final = "istio-system"
DEFAULT_TRUST_DOMAIN: Final = "cluster.local"
DEFAULT_DNS_DOMAIN: Final = "cluster.local"
CLUSTER_ID: Final = "Kubernetes"
TOKEN_AUDIENCE: Final = "istio-ca"  # noqa: S105 (an audience, no secret)
VERSION: Final = "1.30.0"
"""The version of Istio whose names, flags and behaviour these programs have, as they say it to people and proxies."""

"""Every message of ``istioctl analyze``: code, level and template, in one table.

Codes that begin with IST, and their texts, are Istio's (``pkg/config/analysis/msg/messages.yaml``): users search for
them. Codes that begin with M are of this project (docs/diagnostics.md): what the compiled mesh shows and Istio does not
look for. A code never changes its meaning.
"""

from __future__ import annotations

from typing import Final

from istiod.analysis.message import Level, MessageType


def _row(code: str, level: Level, template: str) -> MessageType:
    return MessageType(code=code, level=level, template=template)


DEPRECATED: Final = _row("IST0002", Level.WARNING, "Deprecated: %s")
NOT_FOUND: Final = _row("IST0101", Level.ERROR, "Referenced %s not found: %q")
NAMESPACE_NOT_INJECTED: Final = _row(
    "IST0102",
    Level.INFO,
    "The namespace is not enabled for Istio injection. Run 'kubectl label namespace %s "
    "istio-injection=enabled' to enable it, or 'kubectl label namespace %s istio-injection=disabled' to "
    "explicitly mark it as not needing injection.",
)
POD_MISSING_PROXY: Final = _row(
    "IST0103",
    Level.WARNING,
    "The pod %s is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
)
SCHEMA_ERROR: Final = _row("IST0106", Level.ERROR, "Schema validation error: %v")
MISPLACED_ANNOTATION: Final = _row("IST0107", Level.WARNING, "Misplaced annotation: %s can only be applied to %s")
UNKNOWN_ANNOTATION: Final = _row("IST0108", Level.WARNING, "Unknown annotation: %s")
CONFLICTING_HOSTS: Final = _row(
    "IST0109",
    Level.ERROR,
    "The VirtualServices %s associated with mesh gateway define the same host %s which can lead to "
    "undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single "
    "resource.",
)
CONFLICTING_SIDECARS: Final = _row(
    "IST0110",
    Level.ERROR,
    "The Sidecars %v in namespace %q select the same workload pod %q, which can lead to undefined behavior.",
)
SIDECARS_WITHOUT_SELECTOR: Final = _row(
    "IST0111",
    Level.ERROR,
    "The Sidecars %v in namespace %q have no workload selector, which can lead to undefined behavior.",
)
PORT_REQUIRED: Final = _row(
    "IST0112",
    Level.ERROR,
    "This VirtualService routes to a service %q that exposes multiple ports %v. Specifying a port in the "
    "destination is required to disambiguate.",
)
DEPLOYMENT_OF_MANY_SERVICES: Final = _row(
    "IST0116",
    Level.WARNING,
    "This deployment %s is associated with multiple services using port %d but different protocols: %v",
)
PORT_NAME: Final = _row(
    "IST0118",
    Level.INFO,
    "Port name %s (port: %d, targetPort: %s) doesn't follow the naming convention of Istio port.",
)
MANY_INJECTION_LABELS: Final = _row(
    "IST0123",
    Level.WARNING,
    "The namespace has more than one type of injection labels %v, which may lead to undefined behavior. "
    "Make sure only one injection label exists.",
)
INVALID_ANNOTATION: Final = _row("IST0125", Level.WARNING, "Invalid annotation %s: %s")
UNKNOWN_REGISTRY: Final = _row("IST0126", Level.ERROR, "Unknown service registry %s in network %s")
NO_WORKLOADS: Final = _row(
    "IST0127",
    Level.WARNING,
    "No matching workloads for this resource with the following labels: %s",
)
NO_CA: Final = _row(
    "IST0128",
    Level.WARNING,
    "DestinationRule %s in namespace %s has TLS mode set to %s but no caCertificates are set to validate "
    "server identity for host: %s",
)
NO_CA_OF_PORT: Final = _row(
    "IST0129",
    Level.WARNING,
    "DestinationRule %s in namespace %s has TLS mode set to %s but no caCertificates are set to validate "
    "server identity for host: %s at port %s",
)
UNREACHABLE_RULE: Final = _row("IST0130", Level.WARNING, "VirtualService rule %v not used (%s).")
INEFFECTIVE_MATCH: Final = _row(
    "IST0131",
    Level.INFO,
    "VirtualService rule %v match %v is not used (duplicate/overlapping match in rule %v).",
)
HOST_NOT_IN_GATEWAY: Final = _row(
    "IST0132",
    Level.WARNING,
    "one or more host %v defined in VirtualService %s not found in Gateway %s.",
)
SCHEMA_WARNING: Final = _row("IST0133", Level.WARNING, "Schema validation warning: %v")
ADDRESSES_REQUIRED: Final = _row("IST0134", Level.WARNING, "ServiceEntry addresses are required for this protocol.")
DEPRECATED_ANNOTATION: Final = _row(
    "IST0135",
    Level.INFO,
    "Annotation %q has been deprecated%s and may not work in future Istio versions.",
)
ALPHA_ANNOTATION: Final = _row(
    "IST0136",
    Level.INFO,
    "Annotation %q is part of an alpha-phase feature and may be incompletely supported.",
)
CONFLICTING_PORTS: Final = _row(
    "IST0137",
    Level.WARNING,
    "This deployment %s is associated with multiple services %v using targetPort %q but different ports: %v.",
)
DUPLICATE_CERTIFICATE: Final = _row(
    "IST0138",
    Level.WARNING,
    "Duplicate certificate in multiple gateways %v may cause 404s if clients re-use HTTP2 connections.",
)
INVALID_WEBHOOK: Final = _row("IST0139", Level.ERROR, "%v")
INGRESS_IGNORES_SUBSET: Final = _row(
    "IST0140",
    Level.WARNING,
    "Subset in virtual service %s has no effect on ingress gateway %s requests",
)
INVALID_UID: Final = _row("IST0144", Level.WARNING, "User ID (UID) 1337 is reserved for the sidecar proxy.")
CONFLICTING_GATEWAYS: Final = _row(
    "IST0145",
    Level.ERROR,
    "Conflict with gateways %s (workload selector %s, port %s, hosts %v).",
)
IMAGE_AUTO_OF_TEMPLATE: Final = _row(
    "IST0146",
    Level.WARNING,
    "%s %s contains `image: auto` but does not match any Istio injection webhook selectors.",
)
IMAGE_AUTO_OF_POD: Final = _row(
    "IST0147",
    Level.ERROR,
    "%s %s contains `image: auto` but does not match any Istio injection webhook selectors.",
)
INJECTED_BY_DEFAULT: Final = _row(
    "IST0148",
    Level.INFO,
    "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true.",
)
CLAIMS_WITHOUT_AUTHENTICATION: Final = _row(
    "IST0149",
    Level.ERROR,
    "The virtual service uses the JWT claim based routing (key: %s) but found no request authentication "
    "for the gateway (%s) pod (%s). The request authentication must first be applied for the gateway pods"
    " to validate the JWT token and make the claims available for routing.",
)
EXTERNAL_NAME_PORT: Final = _row(
    "IST0150",
    Level.WARNING,
    "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched "
    "traffic for ports serving TCP protocol from being forwarded correctly",
)
RELATIVE_OPERATION: Final = _row(
    "IST0151",
    Level.WARNING,
    "This EnvoyFilter does not have a priority and has a relative patch operation set which can cause the"
    " EnvoyFilter not to be applied. Using the INSERT_FIRST of ADD option or setting the priority may "
    "help in ensuring the EnvoyFilter is applied correctly.",
)
REPLACE_IS_INVALID: Final = _row(
    "IST0152",
    Level.ERROR,
    "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.",
)
ADD_IS_IGNORED: Final = _row(
    "IST0153",
    Level.ERROR,
    "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
)
REMOVE_IS_IGNORED: Final = _row(
    "IST0154",
    Level.ERROR,
    "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
)
RELATIVE_OPERATION_OF_VERSION: Final = _row(
    "IST0155",
    Level.WARNING,
    "This EnvoyFilter does not have a priority and has a relative patch operation (NSTERT_BEFORE/AFTER, "
    "REPLACE, MERGE, DELETE) and proxyVersion set which can cause the EnvoyFilter not to be applied "
    "during an upgrade. Using the INSERT_FIRST or ADD option or setting the priority may help in ensuring"
    " the EnvoyFilter is applied correctly.",
)
EMPTY_PROVIDERS: Final = _row(
    "IST0157",
    Level.WARNING,
    "The Telemetry %v in namespace %q with empty providers will be ignored.",
)
PROXY_IMAGES: Final = _row(
    "IST0158",
    Level.WARNING,
    "The Istio proxy images of the pods running in the namespace do not match the image defined in the "
    "injection configuration (pod names: %v). This often happens after upgrading the Istio control-plane "
    "and can be fixed by redeploying the pods.",
)
CONFLICTING_TELEMETRIES: Final = _row(
    "IST0159",
    Level.ERROR,
    "The Telemetries %v in namespace %q select the same workload pod %q, which can lead to undefined behavior.",
)
TELEMETRIES_WITHOUT_SELECTOR: Final = _row(
    "IST0160",
    Level.ERROR,
    "The Telemetries %v in namespace %q have no workload selector, which can lead to undefined behavior.",
)
INVALID_CREDENTIAL: Final = _row(
    "IST0161",
    Level.ERROR,
    "The credential referenced by the Gateway %s in namespace %s is invalid, which can cause the traffic "
    "not to work as expected.",
)
PORT_NOT_ON_SERVICE: Final = _row(
    "IST0162",
    Level.WARNING,
    "The gateway is listening on a target port (port %d) that is not defined in the Service associated "
    "with its workload instances (Pod selector %s). If you need to access the gateway port through the "
    "gateway Service, it will not be available.",
)
EXTERNAL_ADDRESS: Final = _row(
    "IST0163",
    Level.WARNING,
    "The hostname (%s) that was provided for the webhook (%s) to reach the ingress gateway on the "
    "external control plane cluster %s. Traffic may not flow properly.",
)
EXTERNAL_IP: Final = _row(
    "IST0164",
    Level.INFO,
    "The address (%s) that was provided for the webhook (%s) to reach the ingress gateway on the external"
    " control plane cluster is an IP address. This is not recommended for a production environment.",
)
INTERNAL_GATEWAY: Final = _row(
    "IST0165",
    Level.WARNING,
    "Gateway reference in VirtualService %s is to an implementation-generated internal Gateway: %s.",
)
INEFFECTIVE_SELECTOR: Final = _row(
    "IST0166",
    Level.WARNING,
    "Ineffective selector on Kubernetes Gateway %s. Use the TargetRef field instead.",
)
INEFFECTIVE_POLICY: Final = _row("IST0167", Level.WARNING, "The policy has no impact: %s.")
NEGATIVE_CONDITION: Final = _row(
    "IST0171",
    Level.WARNING,
    "A condition with a negative status is present: type=%s, reason=%s, message=%s.",
)
SUBSET_WITHOUT_PODS: Final = _row(
    "IST0173",
    Level.ERROR,
    "The Subset %s defined in the DestinationRule does not select any pods. Which may lead to 503 UH "
    "(NoHealthyUpstream).",
)
UNKNOWN_RULE_HOST: Final = _row(
    "IST0174",
    Level.WARNING,
    "The host %s defined in the DestinationRule does not match any services in the mesh.",
)
UNRESTRICTED_KEY_FETCH: Final = _row(
    "IST0175",
    Level.WARNING,
    "BLOCKED_CIDRS_IN_JWKS_URIS is not configured but %d RequestAuthentication resource(s) exist (%s). "
    "Consider configuring it to restrict JWKS URI fetches to trusted networks.",
)
OLD_DEFINITION: Final = _row(
    "IST0176",
    Level.WARNING,
    "Gateway API CRD %q is at version %q but Istio requires at least %q; resources of this kind will not "
    "be processed. Upgrade the Gateway API CRDs to satisfy the minimum version.",
)
CONFLICTING_PROTOCOLS: Final = _row(
    "IST0177",
    Level.WARNING,
    "Multiple ServiceEntries (%s) define the same host %q and port %d with conflicting protocols (%s).",
)


def of_diagnostic(code: str) -> MessageType:
    """The row of a finding that istiod makes itself (docs/diagnostics.md)."""
    return MessageType(code=code, level=Level.WARNING, template="%s")


IMPOSSIBLE_MTLS: Final = _row(
    "M0150",
    Level.ERROR,
    "Clients with TLS mode %s cannot reach %s: pod %s %s.",
)
EMPTY_SUBSET: Final = _row(
    "M0151",
    Level.ERROR,
    "Requests for %s go to subset %s, and no server has its labels (%s): they get 503.",
)
SHADOWED: Final = _row("M0152", Level.WARNING, "%s is never reached: %s matches every request that it does.")
HTTP_ON_TCP: Final = _row(
    "M0153",
    Level.WARNING,
    "The http rules have no effect on host %s in the mesh: none of its ports speaks HTTP (%s).",
)
ALLOWS_NOBODY: Final = _row(
    "M0154",
    Level.WARNING,
    "No rule lets any of the mesh's %d known identities in: the selected workloads refuse them all.",
)
DENIES_EVERYBODY: Final = _row(
    "M0155",
    Level.WARNING,
    "%s refuses all of the mesh's %d known identities, whatever they ask for.",
)
PORT_OF_SERVICE: Final = _row(
    "M0156",
    Level.WARNING,
    "Port %d is a port of Service %s; its gateway pods listen on %d, and a policy for them sees that port only.",
)
HOST_OF_OTHERS: Final = _row(
    "M0157",
    Level.WARNING,
    "Host %s belongs to Service %s of another namespace: the Service keeps it, and this entry has no effect on it.",
)
HOSTS_OF_CLUSTER: Final = _row(
    "M0158",
    Level.WARNING,
    "Host %s holds names of the cluster's own Services: these stay what they are, and all others of it go here.",
)
HOSTS_OF_DOMAIN: Final = _row(
    "M0159",
    Level.WARNING,
    "Host %s holds a whole top-level domain: every host below it that nobody declares goes here.",
)

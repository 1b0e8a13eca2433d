"""What single fields of the models are for, in a few words: the descriptions that ``kubectl explain`` shows.

Traffic policies are in words_policy.py. A test holds that every field of Istio's kinds has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from crds import gateway, meta, service_entry, sidecar
from crds import local_rate_limit as rl
from crds import peer_authentication as pa
from crds import virtual_service as vs
from crds.schema import words_policy

_EXPORT: Final = 'Namespaces that see it: "." is its own, "*" all; absent: as the mesh configuration says.'
_GATEWAYS: Final = "Gateways for which it applies; absent: those of the whole object."
_PERCENTAGE: Final = "Share of requests; absent: all."
_SOURCE_LABELS: Final = "Labels that the caller's pod must have; at sidecars only."
_SOURCE_NAMESPACE: Final = "The namespace that the caller must be in; at sidecars only."
_SUBNETS: Final = "Addresses, as IP or CIDR, of which one must be the destination's."
_SOURCE_SUBNET: Final = "Addresses, as IP or CIDR, that the caller must have."
_PORT: Final = "The port that was called."
_WEIGHT: Final = "Its share in relation to the others; where it stands alone, it gets all."

_L4: Final = {
    "destinationSubnets": _SUBNETS,
    "port": _PORT,
    "sourceSubnet": _SOURCE_SUBNET,
    "sourceLabels": _SOURCE_LABELS,
    "sourceNamespace": _SOURCE_NAMESPACE,
    "gateways": _GATEWAYS,
}
_VIRTUAL_SERVICE: Final[Mapping[type[meta.Model], Mapping[str, str]]] = {
    vs.VirtualServiceSpec: {
        "hosts": "Hosts that the routes are for: names, names with a leading wildcard, or addresses.",
        "gateways": 'Gateways (NAMESPACE/NAME) where the routes apply, and "mesh" for sidecars; absent: mesh.',
        "http": "Rules for HTTP and gRPC; the first that matches decides.",
        "tls": "Rules for TLS that is passed through; the first that matches decides.",
        "tcp": "Rules for anything else; the first that matches decides.",
        "exportTo": _EXPORT,
    },
    vs.StringMatch: {
        "exact": "The whole text.",
        "prefix": "What the text begins with.",
        "regex": "A regular expression (RE2) for the whole text.",
    },
    vs.PortSelector: {"number": "The port's number."},
    vs.Destination: {
        "host": "A service's name; a short one is completed with the object's namespace.",
        "subset": "A subset that a DestinationRule of that host defines.",
        "port": "The service's port; may be absent where it has one only.",
    },
    vs.HeaderOperations: {
        "set": "Headers that replace what is there.",
        "add": "Headers that join what is there.",
        "remove": "Headers that go.",
    },
    vs.Headers: {"request": "Of the request that goes on.", "response": "Of the answer that goes back."},
    vs.HTTPMatchRequest: {
        "name": "A name for logs.",
        "uri": "The path, without query.",
        "scheme": "http or https.",
        "method": "The HTTP method.",
        "authority": "The host header.",
        "headers": "Headers that must match, by name in small letters; an empty match asks only that it is there.",
        "withoutHeaders": "Headers that must not match.",
        "queryParams": "Query parameters that must match.",
        "port": _PORT,
        "sourceLabels": _SOURCE_LABELS,
        "sourceNamespace": _SOURCE_NAMESPACE,
        "gateways": _GATEWAYS,
        "ignoreUriCase": "Compare exact and prefix paths without regard to case.",
        "statPrefix": "A prefix of the route's statistics.",
    },
    vs.HTTPRouteDestination: {
        "destination": "Where requests go.",
        "weight": _WEIGHT,
        "headers": "Header operations for this destination only.",
    },
    vs.RouteDestination: {"destination": "Where connections go.", "weight": _WEIGHT},
    vs.HTTPRedirect: {
        "uri": "The path of the new address.",
        "prefixRewrite": "What takes the place of the prefix that matched.",
        "authority": "The host of the new address.",
        "port": "The port of the new address.",
        "derivePort": "Take the port from the scheme, or from the request.",
        "scheme": "The scheme of the new address.",
        "redirectCode": "The status: 301 if absent; 302, 303, 307 and 308 are the others.",
    },
    vs.HTTPBody: {"string": "As text.", "bytes": "As bytes, in base64."},
    vs.HTTPDirectResponse: {"status": "The HTTP status.", "body": "The body; absent: none."},
    vs.Delegate: {"name": "Its name.", "namespace": "Its namespace; absent: the same."},
    vs.RegexRewrite: {"match": "A regular expression (RE2).", "rewrite": r"What takes its place; \1: its first group."},
    vs.HTTPRewrite: {
        "uri": "What takes the place of the path, or of the prefix that matched.",
        "authority": "The new host header.",
        "uriRegexRewrite": "A rewrite of parts of the path.",
    },
    vs.HTTPRetry: {
        "attempts": "How often at most; 0: never.",
        "perTryTimeout": "How long one attempt may take; absent: as the route's timeout.",
        "retryOn": "On which failures, with commas between, such as 5xx,reset,connect-failure.",
        "retryRemoteLocalities": "Whether another locality may be asked.",
        "retryIgnorePreviousHosts": "Whether the same endpoint may be asked again.",
        "backoff": "How long it waits at least before the next attempt.",
    },
    vs.Percent: {"value": "From 0 to 100."},
    vs.Delay: {
        "percent": "The older form of percentage.",
        "fixedDelay": "How long.",
        "exponentialDelay": "Not in use.",
        "percentage": _PERCENTAGE,
    },
    vs.Abort: {
        "httpStatus": "The answer's HTTP status.",
        "grpcStatus": "The answer's gRPC status, by name.",
        "http2Error": "Not in use.",
        "percentage": _PERCENTAGE,
    },
    vs.HTTPFaultInjection: {"delay": "Answer late.", "abort": "Answer with an error, and ask nobody."},
    vs.HTTPMirrorPolicy: {"destination": "Where copies go; their answers are dropped.", "percentage": _PERCENTAGE},
    vs.CorsPolicy: {
        "allowOrigin": "The older form of allowOrigins.",
        "allowOrigins": "Origins that may ask.",
        "allowMethods": "Methods that they may use.",
        "allowHeaders": "Headers that they may send.",
        "exposeHeaders": "Headers that they may read.",
        "maxAge": "How long the answer to a preflight holds.",
        "allowCredentials": "Whether they may send credentials.",
        "unmatchedPreflights": "Whether a preflight of another origin goes on to the service.",
    },
    vs.HTTPRoute: {
        "name": "A name for logs and for people.",
        "match": "Conditions of which one must hold; absent: every request.",
        "route": "Where requests go, by weight.",
        "redirect": "Answer with a redirect.",
        "directResponse": "Answer at once.",
        "delegate": "Another VirtualService that has the rules.",
        "rewrite": "What changes before requests go on.",
        "timeout": "How long an answer may take; absent: for ever.",
        "retries": "What happens when a request fails; absent: the mesh's default.",
        "fault": "Faults for tests.",
        "mirror": "Where copies of requests go.",
        "mirrors": "Where copies of requests go, each with its share.",
        "mirrorPercent": "The older form of mirrorPercentage.",
        "mirrorPercentage": _PERCENTAGE,
        "corsPolicy": "Which web pages of other origins may ask.",
        "headers": "Header operations.",
    },
    vs.TLSMatchAttributes: {
        **_L4,
        "sniHosts": "Server names that clients ask for; each must be among the object's hosts.",
    },
    vs.TLSRoute: {"match": "Conditions of which one must hold.", "route": "Where connections go, by weight."},
    vs.L4MatchAttributes: _L4,
    vs.TCPRoute: {
        "match": "Conditions of which one must hold; absent: every connection.",
        "route": "Where connections go, by weight.",
    },
}
_GATEWAY: Final[Mapping[type[meta.Model], Mapping[str, str]]] = {
    gateway.GatewaySpec: {
        "servers": "Ports, and what is served on them.",
        "selector": "Labels of the pods that serve it; absent: every gateway of the namespace.",
    },
    gateway.Port: {
        "number": "The port.",
        "protocol": "HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.",
        "name": "A name for people.",
        "targetPort": "Not in use.",
    },
    gateway.TLSCertificate: {
        "serverCertificate": "A file with the certificate.",
        "privateKey": "A file with its key.",
        "caCertificates": "A file with the certificate authority of clients.",
    },
    gateway.ServerTLSSettings: {
        "httpsRedirect": "Answer HTTP with a redirect to HTTPS.",
        "mode": "Whether TLS ends here, and whether clients need a certificate.",
        "serverCertificate": "A file with the certificate, where there is no credentialName.",
        "privateKey": "A file with its key.",
        "caCertificates": "A file with the certificate authority of clients.",
        "caCrl": "A file with certificates that were revoked.",
        "tlsCertificates": "Several certificates in files, one for each sort of key.",
        "credentialName": "A Secret with certificate and key, in the namespace of the gateway's pods.",
        "credentialNames": "Several Secrets, one for each sort of key.",
        "caCertCredentialName": "A Secret with the certificate authority of clients, also beside files; at gateways.",
        "subjectAltNames": "Names of which a client's certificate must have one.",
        "verifyCertificateSpki": "Hashes of public keys of which a client's must be one, in base64.",
        "verifyCertificateHash": "Hashes of certificates of which a client's must be one, in hexadecimal digits.",
        "minProtocolVersion": "The lowest TLS version; TLS_AUTO: 1.2.",
        "maxProtocolVersion": "The highest TLS version.",
        "cipherSuites": "Cipher suites that are offered.",
        "insecureSkipVerify": "Take any certificate of a client.",
    },
    gateway.Server: {
        "name": "A name for people.",
        "port": "Where it listens.",
        "bind": "The address where it listens; absent: all.",
        "hosts": "Hosts that are served; NAMESPACE/HOST limits who may bring routes for them.",
        "tls": "Settings of TLS.",
        "defaultEndpoint": "Not in use.",
    },
}
_OTHERS: Final[Mapping[type[meta.Model], Mapping[str, str]]] = {
    service_entry.ServiceEntrySpec: {
        "hosts": "Names that are declared.",
        "addresses": "Virtual addresses of the hosts, as IP or CIDR.",
        "ports": "Their ports.",
        "location": "Whether they are part of the mesh: that decides on mutual TLS.",
        "resolution": "How endpoints are found: the connection's own address, the list here, or DNS.",
        "endpoints": "Endpoints of the hosts.",
        "exportTo": _EXPORT,
        "subjectAltNames": "Names of which the endpoints' certificates must have one.",
        "workloadSelector": "Pods and WorkloadEntries of the namespace that are the endpoints.",
    },
    service_entry.ServicePort: {
        "number": "The port.",
        "protocol": "HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.",
        "name": "Its name.",
        "targetPort": "The endpoints' port, where it is another one.",
    },
    service_entry.LabelsSelector: {"labels": "Labels that a pod must have, all of them."},
    service_entry.WorkloadEntrySpec: {
        "address": "An IP address, a DNS name, or unix:///PATH of a socket.",
        "ports": "Names of the service's ports, and this endpoint's numbers for them.",
        "labels": "The endpoint's labels.",
        "network": "The network that it is in.",
        "locality": "Where it is: REGION/ZONE/SUBZONE.",
        "weight": "Its share in relation to others.",
        "serviceAccount": "The account whose identity it has.",
    },
    sidecar.SidecarSpec: {
        "workloadSelector": "Pods that this is for; absent: all of the namespace.",
        "ingress": "What is listened to for the workload; absent: its services' ports.",
        "egress": "What the workload may reach; absent: everything.",
        "inboundConnectionPool": "Limits of connections to the workload.",
        "outboundTrafficPolicy": "What happens to traffic for hosts that nobody declared.",
    },
    sidecar.SidecarPort: {
        "number": "The port.",
        "protocol": "HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.",
        "name": "Its name.",
        "targetPort": "Not in use.",
    },
    sidecar.IstioIngressListener: {
        "port": "Where it listens.",
        "bind": "The address where it listens; absent: all.",
        "captureMode": "How traffic gets there.",
        "defaultEndpoint": "Where it goes on: 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///PATH.",
        "tls": "TLS that ends at the sidecar, in place of the mesh's own.",
        "connectionPool": "Limits of connections to the workload on this port.",
    },
    sidecar.IstioEgressListener: {
        "port": "Where it listens; absent: the ports of the hosts.",
        "bind": "The address where it listens, or unix:///PATH.",
        "captureMode": "How traffic gets there.",
        "hosts": 'NAMESPACE/HOST; "." is the own namespace, "*" any, "~" none.',
    },
    sidecar.OutboundTrafficPolicy: {
        "mode": "Let it through, or refuse it.",
        "egressProxy": "Where it goes instead.",
    },
    pa.MutualTLS: {"mode": "STRICT demands it, PERMISSIVE takes both, DISABLE refuses it, UNSET inherits."},
    pa.PeerAuthenticationSpec: {
        "selector": "Workloads that this is for; absent: all of the namespace, or of the mesh in its root namespace.",
        "mtls": "For all ports.",
        "portLevelMtls": "For single ports of the workload, by number.",
    },
    rl.LocalRateLimitSpec: {
        "selector": "Workloads that this is for; absent: all of the namespace, or of the mesh in its root namespace.",
        "rules": "Limits, each with a bucket of its own: a request has to find a token in all that count it.",
    },
    rl.LimitRule: {
        "name": "What statistics call it by; absent: its number.",
        "match": "Which requests are counted; absent: all.",
        "limit": "How many are taken.",
        "perConnection": "Each connection to the port has a bucket of its own.",
        "status": "What those get that are too many; absent: 429.",
        "responseHeaders": "Headers that their answers get.",
    },
    rl.RequestMatch: {
        "methods": "HTTP methods, each exact, a prefix (abc*), a suffix (*abc), or * for any.",
        "paths": "Paths without their query, as methods.",
        "hosts": "Hosts of the request, as methods, without regard to case.",
        "headers": "Headers, all of which must match.",
    },
    rl.HeaderMatch: {
        "name": "The header's name.",
        "values": "Values of which one must match, as methods.",
        "notValues": "Values of which none may match.",
    },
    rl.Limit: {
        "requests": "How many requests are taken in the time.",
        "per": "The time, such as 1s; at least 50ms.",
        "burst": "How many may come at once after a quiet time; absent: as many as requests.",
    },
    meta.WorkloadSelector: {"matchLabels": "Labels that a pod must have, all of them."},
}
WORDS: Final[Mapping[type[meta.Model], Mapping[str, str]]] = MappingProxyType(
    {**_VIRTUAL_SERVICE, **_GATEWAY, **_OTHERS, **words_policy.WORDS}
)
"""Model -> field as in YAML -> what it is for."""

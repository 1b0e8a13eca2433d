"""What fields of DestinationRules and of traffic policies are for; see words.py."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from crds import destination_rule as dr
from crds.meta import Model

_POLICY: Final = {
    "loadBalancer": "How an endpoint is chosen.",
    "connectionPool": "Limits of connections.",
    "outlierDetection": "When a failing endpoint is left alone.",
    "tls": "TLS towards the host; absent: the mesh's own where both sides have it.",
}
_FAILOVER: Final = {
    "failover": "Which region takes over from which.",
    "failoverPriority": "Labels, most important first: endpoints that share more of them come first.",
}
_OWN_ERRORS: Final = "Errors in a row that the proxy itself sees, such as time-outs, before ejection."
WORDS: Final[Mapping[type[Model], Mapping[str, str]]] = MappingProxyType(
    {
        dr.DestinationRuleSpec: {
            "host": "The service, or hosts with a leading wildcard, that the policies are for.",
            "trafficPolicy": "What applies to all of its traffic.",
            "subsets": "Named groups of its endpoints.",
            "exportTo": 'Namespaces that see it: "." is its own, "*" all; absent: as the mesh configuration says.',
            "workloadSelector": "Callers that it is for; absent: all.",
        },
        dr.Subset: {
            "name": "What routes call it by.",
            "labels": "Labels that its endpoints have.",
            "trafficPolicy": "What applies to its traffic, over that of the host.",
        },
        dr.TrafficPolicy: {
            **_POLICY,
            "portLevelSettings": "Policies of single ports, in place of the others.",
            "tunnel": "Reach the host through an HTTP proxy.",
            "proxyProtocol": "Tell the host the caller's address by the PROXY protocol.",
            "retryBudget": "How many retries may be under way.",
        },
        dr.PortTrafficPolicy: {**_POLICY, "port": "The port that it is for."},
        dr.LoadBalancerSettings: {
            "simple": "One of the usual ways.",
            "consistentHash": "The same endpoint for the same key.",
            "localityLbSetting": "Which localities are preferred; over that of the mesh.",
            "zoneAwareLbSetting": "Keep traffic in the zone where that is fair.",
            "warmupDurationSecs": "The older form of warmup.",
            "warmup": "Let new endpoints start slowly.",
        },
        dr.ConsistentHashLB: {
            "httpHeaderName": "The key is this header.",
            "httpCookie": "The key is this cookie.",
            "useSourceIp": "The key is the caller's address.",
            "httpQueryParameterName": "The key is this query parameter.",
            "ringHash": "Use a ring.",
            "maglev": "Use a Maglev table.",
            "minimumRingSize": "The older form of ringHash.",
        },
        dr.HTTPCookie: {
            "name": "Its name.",
            "path": "Its path.",
            "ttl": "How long it lives; absent: it is never made.",
            "attributes": "More attributes of the cookie that is made.",
        },
        dr.CookieAttribute: {"name": "Its name.", "value": "Its value."},
        dr.RingHash: {"minimumRingSize": "Places on the ring, at least."},
        dr.MagLev: {"tableSize": "Places in the table: a prime number."},
        dr.LocalityLoadBalancerSetting: {
            **_FAILOVER,
            "distribute": "Shares of localities, by the caller's.",
            "enabled": "Whether localities count at all.",
        },
        dr.ZoneAwareLoadBalancerSetting: {
            **_FAILOVER,
            "enabled": "Whether it is on.",
            "minClusterSize": "Fewer endpoints than this are not told apart by zone.",
        },
        dr.Distribute: {
            "from": "The caller's locality: REGION/ZONE/SUBZONE, with * for any.",
            "to": "Localities and their shares, 100 in all.",
        },
        dr.Failover: {"from": "The region that fails.", "to": "The region that takes over."},
        dr.WarmupConfiguration: {
            "duration": "How long it takes.",
            "minimumPercent": "The share of its weight that an endpoint begins with.",
            "aggression": "How fast the share grows; 1 is evenly.",
        },
        dr.TcpKeepalive: {
            "probes": "Probes without an answer before the connection is dead.",
            "time": "Silence before the first probe.",
            "interval": "Time between probes.",
        },
        dr.TCPSettings: {
            "maxConnections": "Connections to the host, at most.",
            "connectTimeout": "How long a connection may take.",
            "tcpKeepalive": "Probes on idle connections.",
            "maxConnectionDuration": "How long a connection may live.",
            "idleTimeout": "How long a connection may be idle; 0s: for ever.",
        },
        dr.Http2KeepAlive: {
            "interval": "Time between pings.",
            "timeout": "How long an answer to a ping may take.",
        },
        dr.HTTPSettings: {
            "http1MaxPendingRequests": "Requests that wait for a connection, at most.",
            "http2MaxRequests": "Requests under way, at most.",
            "maxRequestsPerConnection": "Requests that one connection serves; 1: no keep-alive, 0: no limit.",
            "maxRetries": "Retries under way, at most.",
            "idleTimeout": "How long a connection without a request may live.",
            "h2UpgradePolicy": "Whether HTTP/1.1 becomes HTTP/2 on the way.",
            "useClientProtocol": "Speak what the caller speaks.",
            "maxConcurrentStreams": "Requests at once on one HTTP/2 connection.",
            "http2KeepAlive": "Pings on HTTP/2 connections.",
        },
        dr.ConnectionPoolSettings: {"tcp": "For all connections.", "http": "For HTTP."},
        dr.OutlierDetection: {
            "consecutiveErrors": "The older form of consecutiveGatewayErrors.",
            "splitExternalLocalOriginErrors": "Count errors that the proxy itself sees apart from answers.",
            "consecutiveLocalOriginFailures": _OWN_ERRORS,
            "consecutiveGatewayErrors": "Answers 502, 503 and 504 in a row before ejection; 0: never.",
            "consecutive5xxErrors": "Answers 5xx in a row before ejection; 0: never.",
            "interval": "How often endpoints are looked at.",
            "baseEjectionTime": "How long an ejection lasts, times the number of ejections.",
            "maxEjectionPercent": "How many endpoints may be ejected, in percent.",
            "minHealthPercent": "With fewer healthy endpoints than this, in percent, nobody is ejected.",
            "outlierDetectionHttpErrorCodes": "Which answers of an endpoint are errors, and no others; absent: 5xx.",
        },
        dr.ClientTLSSettings: {
            "mode": "No TLS, TLS, TLS with a certificate of your own, or the mesh's mutual TLS.",
            "clientCertificate": "A file with the client's certificate.",
            "privateKey": "A file with its key.",
            "caCertificates": "A file with the host's certificate authority.",
            "caCrl": "A file with certificates that were revoked.",
            "credentialName": "A Secret with certificate and key.",
            "subjectAltNames": "Names of which the host's certificate must have one.",
            "sni": "The server name that is asked for.",
            "insecureSkipVerify": "Take any certificate of the host.",
        },
        dr.TunnelSettings: {
            "protocol": "CONNECT or POST.",
            "targetHost": "The host behind the proxy.",
            "targetPort": "Its port.",
        },
        dr.ProxyProtocol: {"version": "The protocol's version."},
        dr.RetryBudget: {
            "percent": "Retries under way in relation to requests under way.",
            "minRetryConcurrency": "Retries that may be under way in any case.",
            "budgetInterval": "The time over which requests are counted.",
        },
    }
)
"""Model -> field as in YAML -> what it is for."""

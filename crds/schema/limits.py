"""Conditions of fields that the API server checks and no model holds: lengths, counts, CEL; the same as Istio's.

Also fields of Istio's API that a model does not read yet: they are kept, and istiod says that they have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from crds import destination_rule as dr
from crds import gateway, meta, service_entry, sidecar
from crds import local_rate_limit as rl
from crds import peer_authentication as pa
from crds import virtual_service as vs
from crds.schema import common
from crds.schema.shape import UINT32, Rule, Schema, string, strings, thing, uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one model. Names are those of the YAML.

    ``fields`` is laid over the schemas of fields (None takes a key away), ``more`` are fields beside the model's,
    ``without`` fields of the model that Istio does not have.
    """

    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    rules: tuple[Rule, ...] = ()
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: Mapping[str, Schema] = field(default_factory=dict)
    without: frozenset[str] = frozenset()


NONE: Final = Limits()


def _rules(*rules: Rule) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


_ANY_DURATION: Final[dict[str, Any]] = {"x-kubernetes-validations": None}
_PERCENT: Final[dict[str, Any]] = {"minimum": 0, "maximum": 100}
_PORT: Final = _rules(common.PORT_RULE)
_LIST_OF: Final[dict[str, Any]] = {"minItems": 1, "maxItems": 2}

_SERVER_CERTIFICATES: Final[tuple[Rule, ...]] = tuple(
    (f"(has(self.{one}) ? 1 : 0) + (has(self.{two}) ? 1 : 0) <= 1", f"only one of {one} and {two} can be set")
    for one, two in (
        ("credentialNames", "tlsCertificates"),
        ("credentialName", "credentialNames"),
        ("credentialName", "tlsCertificates"),
    )
)
_BACKEND_UTILIZATION: Final = thing(
    "Weights by what endpoints report of their load. Without effect yet.",
    {
        "errorUtilizationPenaltyPercent": uint32("How much errors count."),
        "metricNamesForComputingUtilization": strings("Which reported metrics count."),
        "weightExpirationPeriod": string("How long a weight holds without a new report."),
        "weightStabilizationPeriod": string("How long reports are gathered first."),
        "weightUpdatePeriod": string("How often weights change."),
    },
)
_CODE: Final[Schema] = {"type": "integer", "minimum": 100, "maximum": 599}

ADDRESS_RULE: Final[Rule] = ("has(self.address) || has(self.network)", "address is required where there is no network")
_RESOLUTION: Final = "(has(self.resolution) ? self.resolution : 'NONE')"

_DESTINATION_RULE: Final[Mapping[type[meta.Model], Limits]] = {
    dr.DestinationRuleSpec: Limits(required=("host",)),
    dr.Subset: Limits(required=("name",)),
    dr.TrafficPolicy: Limits(fields={"portLevelSettings": {"maxItems": 4096}}),
    dr.HTTPCookie: Limits(required=("name",), fields={"ttl": _ANY_DURATION}),
    dr.CookieAttribute: Limits(required=("name",)),
    dr.ConsistentHashLB: Limits(
        one_of=(
            ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
            ("ringHash", "maglev"),
        )
    ),
    dr.LoadBalancerSettings: Limits(
        one_of=(("simple", "consistentHash", "backendUtilization"),), more={"backendUtilization": _BACKEND_UTILIZATION}
    ),
    dr.ZoneAwareLoadBalancerSetting: Limits(fields={"minClusterSize": {"minimum": 1, "maximum": UINT32}}),
    dr.WarmupConfiguration: Limits(
        required=("duration",), fields={"minimumPercent": _PERCENT, "aggression": {"minimum": 0}}
    ),
    dr.TCPSettings: Limits(fields={"idleTimeout": _ANY_DURATION}),
    dr.OutlierDetection: Limits(
        more={
            "failurePercentageThreshold": {
                "description": "Ejection by the share of failures, in percent. Without effect yet.",
                "type": "integer",
                "nullable": True,
                **_PERCENT,
            },
        },
        fields={"outlierDetectionHttpErrorCodes": {"items": _CODE}},
    ),
    dr.ClientTLSSettings: Limits(
        more={"caCertCredentialName": string("A Secret with the certificate authority. Without effect yet.")}
    ),
    dr.TunnelSettings: Limits(required=("targetHost", "targetPort")),
    dr.RetryBudget: Limits(fields={"percent": _PERCENT, "budgetInterval": _ANY_DURATION}),
}
_VIRTUAL_SERVICE: Final[Mapping[type[meta.Model], Limits]] = {
    vs.StringMatch: Limits(one_of=(("exact", "prefix", "regex"),)),
    vs.Destination: Limits(required=("host",)),
    vs.HTTPRouteDestination: Limits(required=("destination",)),
    vs.RouteDestination: Limits(required=("destination",)),
    vs.HTTPMirrorPolicy: Limits(required=("destination",)),
    vs.HTTPRedirect: Limits(one_of=(("port", "derivePort"),)),
    vs.HTTPBody: Limits(one_of=(("string", "bytes"),), fields={"bytes": {"format": "byte"}}),
    vs.HTTPDirectResponse: Limits(required=("status",)),
    vs.Delay: Limits(one_of=(("fixedDelay", "exponentialDelay"),)),
    vs.Abort: Limits(one_of=(("httpStatus", "grpcStatus", "http2Error"),), without=frozenset({"percent"})),
    vs.TLSRoute: Limits(required=("match",)),
    vs.TLSMatchAttributes: Limits(required=("sniHosts",)),
    vs.HTTPRoute: Limits(
        more={"mirror_percent": uint32("The older spelling of mirrorPercent.", nullable=True)},
        without=frozenset({"websocketUpgrade", "appendHeaders", "removeResponseHeaders"}),
    ),
}
_SERVICE_ENTRY: Final[Mapping[type[meta.Model], Limits]] = {
    service_entry.ServicePort: Limits(
        required=("number", "name"),
        fields={
            "number": _PORT,
            "targetPort": _PORT,
            "name": {"maxLength": 256},
            "protocol": {"maxLength": 256},
        },
    ),
    service_entry.LabelsSelector: Limits(
        fields={"labels": {"maxProperties": common.MOST_WORKLOAD_LABELS, "additionalProperties": common.label_value()}}
    ),
    service_entry.WorkloadEntrySpec: Limits(
        rules=(
            ADDRESS_RULE,
            (
                '(has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true',
                "a Unix socket has no ports",
            ),
        ),
        fields={
            "address": {
                "maxLength": 256,
                **_rules(
                    (
                        (
                            'self.startsWith("unix://") ? (self.substring(7, 8) == "/" || self.substring(7, 8) == "@") '
                            ": true"
                        ),
                        "a Unix socket is an absolute path, or an abstract one with @",
                    ),
                    ('self.startsWith("unix://") ? !self.endsWith("/") : true', "a Unix socket is no directory"),
                ),
            },
            "ports": {
                "maxProperties": 128,
                "additionalProperties": _PORT,
                **_rules(
                    (
                        'self.all(key, size(key) < 63 && key.matches("^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$"))',
                        "names of ports are letters, digits and dashes",
                    )
                ),
            },
            "labels": {"maxProperties": 256},
            "locality": {"maxLength": 2048},
            "network": {"maxLength": 2048},
            "serviceAccount": {"maxLength": 253},
        },
    ),
    service_entry.ServiceEntrySpec: Limits(
        required=("hosts",),
        rules=(
            (
                "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1",
                "only one of workloadSelector and endpoints can be set",
            ),
            (
                (
                    f"!((has(self.addresses) ? self.addresses : []).exists(k, k.contains('/')) && "
                    f"!({_RESOLUTION} in ['STATIC', 'NONE']))"
                ),
                "addresses can be CIDRs only where resolution is NONE or STATIC",
            ),
            (f"({_RESOLUTION} == 'NONE') ? !has(self.endpoints) : true", "resolution NONE takes no endpoints"),
            (
                (
                    f"({_RESOLUTION} == 'DNS_ROUND_ROBIN') ? "
                    "((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true"
                ),
                "resolution DNS_ROUND_ROBIN takes one endpoint at most",
            ),
        ),
        fields={
            "addresses": {"maxItems": 256, "items": {"maxLength": 64}},
            "endpoints": {"maxItems": 4096},
            "hosts": {"minItems": 1, "maxItems": 256, "items": _rules(('self != "*"', "a host cannot be *"))},
            "ports": {
                "maxItems": 256,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                **_rules(
                    (
                        "self.all(l1, self.exists_one(l2, l1.number == l2.number))",
                        "each port number can be there once",
                    )
                ),
            },
        },
    ),
}
_OTHERS: Final[Mapping[type[meta.Model], Limits]] = {
    meta.WorkloadSelector: Limits(fields={"matchLabels": common.match_labels()}),
    gateway.Server: Limits(required=("port", "hosts")),
    gateway.Port: Limits(required=("number", "protocol", "name")),
    gateway.ServerTLSSettings: Limits(
        rules=_SERVER_CERTIFICATES,
        fields={"credentialNames": _LIST_OF, "tlsCertificates": _LIST_OF},
        more={
            "alpnProtocols": strings("Application protocols that are offered. Without effect yet."),
            "ecdhCurves": strings("Curves of the key exchange. Without effect yet."),
        },
    ),
    rl.LocalRateLimitSpec: Limits(required=("rules",), fields={"rules": {"minItems": 1, "maxItems": 32}}),
    rl.LimitRule: Limits(required=("limit",), fields={"status": {"minimum": 400, "maximum": 511}}),
    rl.Limit: Limits(required=("requests", "per"), fields={"requests": {"minimum": 1}}),
    rl.HeaderMatch: Limits(required=("name",)),
    sidecar.IstioIngressListener: Limits(required=("port",)),
    sidecar.IstioEgressListener: Limits(required=("hosts",)),
    pa.PeerAuthenticationSpec: Limits(
        rules=(
            (
                (
                    "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? "
                    "self.selector.matchLabels : {}).size() > 0) : true"
                ),
                "portLevelMtls needs a selector",
            ),
        ),
        fields={
            "portLevelMtls": {
                "minProperties": 1,
                **_rules(("self.all(key, 0 < int(key) && int(key) <= 65535)", "keys must be ports from 1 to 65535")),
            }
        },
    ),
}
LIMITS: Final[Mapping[type[meta.Model], Limits]] = MappingProxyType(
    {**_DESTINATION_RULE, **_VIRTUAL_SERVICE, **_SERVICE_ENTRY, **_OTHERS}
)
"""Model -> what holds of it beside its types."""

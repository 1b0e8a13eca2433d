"""Which kinds we know: how each is served, whether it has a namespace, and which model reads it.

Three sorts of kind: those that are read; Istio's and the Gateway API's that have no effect yet (``NOT_YET``: users are
told so, and of some what is wrong with them); and ordinary kinds of Kubernetes that the mesh does not look at
(``SILENT``). Anything else is unknown.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from crds import (
    apps,
    authorization_policy,
    core,
    destination_rule,
    discovery,
    envoy_filter,
    extension,
    gateway,
    local_rate_limit,
    peer_authentication,
    proxy_config_object,
    request_authentication,
    service_entry,
    sidecar,
    telemetry,
)
from crds.key import NETWORKING, SECURITY, TELEMETRY
from crds.meta import Object
from crds.virtual_service import VirtualService

ISTIO: Final = "istio.io"
"""How the names of Istio's groups end."""
_ALIKE: Final = 0.8
"""How alike two names are that one writes for the other (difflib's ratio)."""


class Effect(Enum):
    """What an object of a kind does."""

    READ = "read"
    NOT_YET = "known, and without effect yet"
    SILENT = "of no concern to the mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInfo:
    """How the API serves a kind. ``model`` is set where its objects are judged, also where they have no effect yet."""

    group: str
    kind: str
    versions: tuple[str, ...]
    plural: str
    namespaced: bool = True
    effect: Effect = Effect.READ
    model: type[Object] | None = None


ALL_VERSIONS: Final = ("v1", "v1beta1", "v1alpha3")
EXTENSIONS: Final = "extensions.istio.io"
GATEWAY_API: Final = "gateway.networking.k8s.io"

_READ: Final[tuple[tuple[str, tuple[str, ...], str, type[Object]], ...]] = (
    (NETWORKING, ALL_VERSIONS, "virtualservices", VirtualService),
    (NETWORKING, ALL_VERSIONS, "destinationrules", destination_rule.DestinationRule),
    (NETWORKING, ALL_VERSIONS, "gateways", gateway.Gateway),
    (NETWORKING, ALL_VERSIONS, "serviceentries", service_entry.ServiceEntry),
    (NETWORKING, ALL_VERSIONS, "workloadentries", service_entry.WorkloadEntry),
    (NETWORKING, ALL_VERSIONS, "workloadgroups", service_entry.WorkloadGroup),
    (NETWORKING, ALL_VERSIONS, "sidecars", sidecar.Sidecar),
    (NETWORKING, ("v1alpha3",), "envoyfilters", envoy_filter.EnvoyFilter),
    (NETWORKING, ("v1beta1",), "proxyconfigs", proxy_config_object.ProxyConfig),
    (SECURITY, ("v1", "v1beta1"), "authorizationpolicies", authorization_policy.AuthorizationPolicy),
    (SECURITY, ("v1", "v1beta1"), "peerauthentications", peer_authentication.PeerAuthentication),
    (SECURITY, ("v1", "v1beta1"), "requestauthentications", request_authentication.RequestAuthentication),
    (TELEMETRY, ("v1", "v1alpha1"), "telemetries", telemetry.Telemetry),
    (local_rate_limit.GROUP, ("v1alpha1",), "localratelimits", local_rate_limit.LocalRateLimit),
    ("", ("v1",), "services", core.Service),
    ("", ("v1",), "pods", core.Pod),
    ("", ("v1",), "secrets", core.Secret),
    ("", ("v1",), "configmaps", core.ConfigMap),
    ("", ("v1",), "serviceaccounts", core.ServiceAccount),
    ("discovery.k8s.io", ("v1", "v1beta1"), "endpointslices", discovery.EndpointSlice),
    ("apps", ("v1",), "deployments", apps.Deployment),
    ("apps", ("v1",), "replicasets", apps.ReplicaSet),
    ("apps", ("v1",), "statefulsets", apps.StatefulSet),
    ("apps", ("v1",), "daemonsets", apps.DaemonSet),
    ("batch", ("v1",), "jobs", apps.Job),
)
_READ_CLUSTER: Final[tuple[tuple[str, tuple[str, ...], str, type[Object]], ...]] = (
    ("", ("v1",), "nodes", core.Node),
    ("", ("v1",), "namespaces", core.Namespace),
)
_JUDGED: Final[tuple[tuple[str, tuple[str, ...], str, type[Object]], ...]] = (
    (EXTENSIONS, ("v1alpha1",), "wasmplugins", extension.WasmPlugin),
    (EXTENSIONS, ("v1alpha1",), "trafficextensions", extension.TrafficExtension),
)
_NOT_YET: Final = (
    ("install.istio.io", ("v1alpha1",), "istiooperators", "IstioOperator"),
    (GATEWAY_API, ("v1", "v1beta1"), "gateways", "Gateway"),
    (GATEWAY_API, ("v1", "v1beta1"), "httproutes", "HTTPRoute"),
    (GATEWAY_API, ("v1", "v1alpha2"), "grpcroutes", "GRPCRoute"),
    (GATEWAY_API, ("v1", "v1alpha2"), "tcproutes", "TCPRoute"),
    (GATEWAY_API, ("v1", "v1alpha3", "v1alpha2"), "tlsroutes", "TLSRoute"),
    (GATEWAY_API, ("v1alpha2",), "udproutes", "UDPRoute"),
    (GATEWAY_API, ("v1", "v1beta1", "v1alpha2"), "referencegrants", "ReferenceGrant"),
    (GATEWAY_API, ("v1", "v1alpha3"), "backendtlspolicies", "BackendTLSPolicy"),
    (GATEWAY_API, ("v1",), "listenersets", "ListenerSet"),
    ("networking.k8s.io", ("v1",), "ingresses", "Ingress"),
)
_NOT_YET_CLUSTER: Final = ((GATEWAY_API, ("v1", "v1beta1"), "gatewayclasses", "GatewayClass"),)
_KUBERNETES_GROUPS: Final = frozenset({"", "apps", "batch", "autoscaling", "policy", "extensions"})


def _kinds() -> dict[tuple[str, str], KindInfo]:
    table: dict[tuple[str, str], KindInfo] = {}
    read, not_yet = Effect.READ, Effect.NOT_YET
    for rows, namespaced, effect_ in ((_READ, True, read), (_READ_CLUSTER, False, read), (_JUDGED, True, not_yet)):
        for group, versions, plural, model in rows:
            kind = model.__name__
            table[group, kind] = KindInfo(
                group=group,
                kind=kind,
                versions=versions,
                plural=plural,
                namespaced=namespaced,
                effect=effect_,
                model=model,
            )
    for names, namespaced in ((_NOT_YET, True), (_NOT_YET_CLUSTER, False)):
        for group, versions, plural, kind in names:
            table[group, kind] = KindInfo(
                group=group, kind=kind, versions=versions, plural=plural, namespaced=namespaced, effect=not_yet
            )
    return table


KINDS: Final[Mapping[tuple[str, str], KindInfo]] = MappingProxyType(_kinds())
"""(group, kind) -> how it is served, for the kinds that we read or that users expect us to read."""


def near(group: str, kind: str) -> str:
    """The kind of Istio's, or its apiVersion, that a user may have meant by a kind that nobody knows; "" for none."""
    ours = {name: (its, info) for (its, name), info in KINDS.items() if its.endswith(ISTIO)}
    if kind in ours:
        its, info = ours[kind]
        return f"apiVersion {its}/{info.versions[0]}"
    known = {name.lower(): name for name in ours} | {info.plural: name for name, (_, info) in ours.items()}
    found = difflib.get_close_matches(kind.lower(), known, 1, _ALIKE) if group.endswith(ISTIO) else ()
    return known[found[0]] if found else ""


def effect(group: str, kind: str) -> Effect | None:
    """What objects of a kind do; None where neither group nor kind is known.

    Groups of Kubernetes itself (no dot, or under k8s.io) are of no concern where KINDS has no row for them.
    """
    info = KINDS.get((group, kind))
    if info is not None:
        return info.effect
    is_kubernetes = group in _KUBERNETES_GROUPS or group.endswith(".k8s.io")
    return Effect.SILENT if is_kubernetes and group != GATEWAY_API else None

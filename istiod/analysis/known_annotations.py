"""Istio's annotations: on which kinds each may stand, which are deprecated, and how mature each is.

Source: the annotation reference of the Istio API (``annotation/annotations.yaml``), and those that it does not list and
the webhook reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ANY: Final = "Any"
_POD: Final = ("Pod",)
_SIDECAR: Final = "sidecar.istio.io/"
_TRAFFIC: Final = "traffic.sidecar.istio.io/"
_READINESS: Final = "readiness.status.sidecar.istio.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What is known of one; ``instead`` says what users of a deprecated one should write."""

    kinds: tuple[str, ...] = _POD
    deprecated: bool = False
    alpha: bool = True
    instead: str = ""


_ALPHA: Final = Annotation()
_DEPRECATED: Final = Annotation(deprecated=True)
_ON_ANY: Final = Annotation(kinds=(ANY,))
_WITHIN_SIDECAR: Final = (
    *("status", "rewriteAppHTTPProbers", "proxyImage", "proxyImageType", "proxyCPU", "proxyCPULimit", "proxyMemory"),
    *("proxyMemoryLimit", "interceptionMode", "bootstrapOverride", "userVolume", "userVolumeMount", "enableCoreDump"),
    *("logLevel", "componentLogLevel", "agentLogLevel", "nativeSidecar", "statsHistogramBuckets"),
    *("statsHistogramBins", "statsFlushInterval", "statsEvictionInterval", "statsCompression", "capNetBindService"),
)
_WITHIN_TRAFFIC: Final = (
    *("includeOutboundIPRanges", "excludeOutboundIPRanges", "includeInboundPorts", "excludeInboundPorts"),
    *("includeOutboundPorts", "excludeOutboundPorts", "excludeInterfaces"),
)
KNOWN: Final[Mapping[str, Annotation]] = {
    **{f"{_SIDECAR}{name}": _ALPHA for name in _WITHIN_SIDECAR},
    **{f"{_TRAFFIC}{name}": _ALPHA for name in _WITHIN_TRAFFIC},
    **{
        f"{_READINESS}{name}": _ALPHA
        for name in ("initialDelaySeconds", "periodSeconds", "failureThreshold", "applicationPorts")
    },
    **{f"{_SIDECAR}statsInclusion{name}": _DEPRECATED for name in ("Prefixes", "Suffixes", "Regexps")},
    f"{_TRAFFIC}kubevirtInterfaces": _DEPRECATED,
    **{f"{_SIDECAR}{name}": _DEPRECATED for name in ("controlPlaneAuthPolicy", "discoveryAddress", "extraStatTags")},
    **{f"ambient.istio.io/{name}": _ALPHA for name in ("redirection", "bypass-inbound-capture", "dns-capture")},
    f"{_SIDECAR}inject": Annotation(
        deprecated=True, alpha=False, instead=' in favor of the "sidecar.istio.io/inject" label'
    ),
    "status.sidecar.istio.io/port": _ALPHA,
    "proxy.istio.io/config": Annotation(alpha=False),
    "proxy.istio.io/overrides": _ALPHA,
    "inject.istio.io/templates": _ALPHA,
    "prometheus.istio.io/merge-metrics": _ALPHA,
    "prometheus.istio.io/scrape-targets": _ALPHA,
    "istio.io/reroute-virtual-interfaces": _ALPHA,
    "istio.io/rev": _ALPHA,
    "istio.io/dry-run": Annotation(kinds=("AuthorizationPolicy",)),
    "alpha.istio.io/identity": _DEPRECATED,
    "alpha.istio.io/kubernetes-serviceaccounts": Annotation(kinds=("Service",), deprecated=True),
    "alpha.istio.io/canonical-serviceaccounts": Annotation(kinds=("Service",), deprecated=True),
    "networking.istio.io/exportTo": Annotation(kinds=("Service",)),
    "networking.istio.io/traffic-distribution": Annotation(kinds=("Service", "ServiceEntry", "Namespace")),
    "networking.istio.io/address-type": Annotation(kinds=("Gateway",)),
    "networking.istio.io/service-type": Annotation(kinds=("Gateway",)),
    "traffic.istio.io/nodeSelector": Annotation(kinds=("Service",), alpha=False),
    "topology.istio.io/controlPlaneClusters": Annotation(kinds=("Namespace",)),
    "kubernetes.io/ingress.class": Annotation(kinds=("Ingress",), alpha=False),
    "gateway.istio.io/controller-version": _ON_ANY,
    "gateway.istio.io/name-override": Annotation(kinds=("Gateway",)),
    "gateway.istio.io/service-account": Annotation(kinds=("Gateway",)),
    "galley.istio.io/analyze-suppress": _ON_ANY,
    "install.operator.istio.io/chart-owner": _ON_ANY,
    "install.operator.istio.io/owner-generation": _ON_ANY,
    "install.operator.istio.io/version": _ON_ANY,
    **{
        f"istio.io/{name}": Annotation(kinds=("WorkloadEntry",))
        for name in ("autoRegistrationGroup", "workloadController", "connectedAt", "disconnectedAt")
    },
}
MADE_BY_ISTIO: Final = frozenset(
    (
        f"{_SIDECAR}status",
        "istio.io/rev",
        "ambient.istio.io/redirection",
        "gateway.istio.io/controller-version",
    )
)
"""Written by Istio itself: users cannot help that they are young."""
SET_BY_CNI: Final = frozenset(
    (
        f"{_SIDECAR}interceptionMode",
        f"{_TRAFFIC}includeInboundPorts",
        f"{_TRAFFIC}excludeInboundPorts",
        f"{_TRAFFIC}includeOutboundIPRanges",
    )
)
"""On pods without the container ``istio-init`` they come from Istio's network plugin."""


def is_ours(name: str) -> bool:
    """Whether an annotation is in Istio's name space."""
    return name == "kubernetes.io/ingress.class" or name.partition("/")[0].endswith("istio.io")

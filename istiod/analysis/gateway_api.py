"""The Gateway API, as far as YAML shows it: selectors that its gateways ignore, and definitions that are too old."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection

_NAME: Final = "gateway.networking.k8s.io/gateway-name"
_BUNDLE: Final = "gateway.networking.k8s.io/bundle-version"
_VERSION: Final = re.compile(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?((?:-[0-9A-Za-z.-]+)?)(?:\+[0-9A-Za-z.-]+)?")
_MINIMUM: Final[Mapping[str, tuple[int, int, int]]] = {
    "grpcroutes.gateway.networking.k8s.io": (1, 1, 0),
    "backendtlspolicies.gateway.networking.k8s.io": (1, 4, 0),
    "tlsroutes.gateway.networking.k8s.io": (1, 5, 0),
}
_POLICIES: Final = (
    kinds.AUTHORIZATION_POLICY,
    kinds.REQUEST_AUTHENTICATION,
    kinds.TELEMETRY,
    kinds.WASM_PLUGIN,
)


def _selectors(known: Collection) -> Iterator[Message]:
    for kind in _POLICIES:
        for policy in known.of(kind):
            if fields.dig(policy.spec, "targetRef") is not None or fields.dig(policy.spec, "targetRefs"):
                continue
            if not isinstance(fields.dig(policy.spec, "selector"), dict):
                continue
            for pod in known.pods(fields.labels(policy.spec, "selector", "matchLabels"), policy.namespace):
                if _NAME in pod.labels:
                    yield message.make(catalogue.INEFFECTIVE_SELECTOR, policy, pod.labels[_NAME])


def _definitions(known: Collection) -> Iterator[Message]:
    for definition in known.of(kinds.DEFINITION):
        minimum = _MINIMUM.get(definition.name)
        found = _VERSION.fullmatch(definition.annotations.get(_BUNDLE, ""))
        if minimum is None or found is None:
            continue
        major, minor, patch = (int(each or 0) for each in found.groups()[:3])
        if (major, minor, patch) < minimum:
            said = f"{major}.{minor}.{patch}{found.group(4)}"
            least = ".".join(map(str, minimum))
            yield message.make(catalogue.OLD_DEFINITION, definition, definition.name, said, least)


SELECTORS: Final = Analyzer(
    name="k8sgateway.SelectorAnalyzer",
    description="Check that selectors are effective for Kubernetes gateway",
    run=_selectors,
)
DEFINITIONS: Final = Analyzer(
    name="k8sgateway.CRDVersionAnalyzer",
    description="Checks Gateway API CRDs are at the minimum version required by this Istio version",
    run=_definitions,
)

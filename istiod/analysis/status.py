"""Findings as ``status.validationMessages`` of an object has them (istio.analysis.v1alpha1). Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final

from crds.diagnostic import Code
from crds.key import ConfigKey
from istiod.analysis import catalogue, kinds
from istiod.analysis.message import Message, MessageType

Said = Mapping[str, Any]
SUPPRESS: Final = "galley.istio.io/analyze-suppress"
"""The annotation with the codes, separated by commas, that a user does not want to hear of an object; ``*``: none."""
_NAMES: Final = {
    "IST0002": "Deprecated",
    "IST0101": "ReferencedResourceNotFound",
    "IST0106": "SchemaValidationError",
    "IST0107": "MisplacedAnnotation",
    "IST0108": "UnknownAnnotation",
    "IST0109": "ConflictingMeshGatewayVirtualServiceHosts",
    "IST0110": "ConflictingSidecarWorkloadSelectors",
    "IST0111": "MultipleSidecarsWithoutWorkloadSelectors",
    "IST0112": "VirtualServiceDestinationPortSelectorRequired",
    "IST0125": "InvalidAnnotation",
    "IST0127": "NoMatchingWorkloadsFound",
    "IST0128": "NoServerCertificateVerificationDestinationLevel",
    "IST0129": "NoServerCertificateVerificationPortLevel",
    "IST0130": "VirtualServiceUnreachableRule",
    "IST0131": "VirtualServiceIneffectiveMatch",
    "IST0132": "VirtualServiceHostNotFoundInGateway",
    "IST0133": "SchemaWarning",
    "IST0134": "ServiceEntryAddressesRequired",
    "IST0135": "DeprecatedAnnotation",
    "IST0136": "AlphaAnnotation",
    "IST0138": "GatewayDuplicateCertificate",
    "IST0140": "IngressRouteRulesNotAffected",
    "IST0145": "ConflictingGateways",
    "IST0149": "JwtClaimBasedRoutingWithoutRequestAuthN",
    "IST0151": "EnvoyFilterUsesRelativeOperation",
    "IST0152": "EnvoyFilterUsesReplaceOperationIncorrectly",
    "IST0153": "EnvoyFilterUsesAddOperationIncorrectly",
    "IST0154": "EnvoyFilterUsesRemoveOperationIncorrectly",
    "IST0155": "EnvoyFilterUsesRelativeOperationWithProxyVersion",
    "IST0157": "InvalidTelemetryProvider",
    "IST0159": "ConflictingTelemetryWorkloadSelectors",
    "IST0160": "MultipleTelemetriesWithoutWorkloadSelectors",
    "IST0161": "InvalidGatewayCredential",
    "IST0162": "GatewayPortNotDefinedOnService",
}
"""Istio's names of codes that objects of Istio's own kinds may have; others are named as the catalogue names them."""


def suppressed(message: Message) -> bool:
    """Whether the object itself says that nobody wants to hear it."""
    said = message.resource.annotations.get(SUPPRESS, "") if message.resource is not None else ""
    return bool({"*", message.type.code} & {each.strip() for each in said.split(",")})


def by_object(found: Iterable[Message]) -> dict[ConfigKey, tuple[Said, ...]]:
    """What the statuses of Istio's objects are to say; worst first, each code once for an object."""
    made: dict[ConfigKey, dict[str, Said]] = {}
    for message in found:
        resource = message.resource
        if resource is not None and resource.kind in kinds.ISTIO and not suppressed(message):
            key = ConfigKey(resource.kind.group, resource.kind.name, resource.namespace, resource.name)
            made.setdefault(key, {}).setdefault(message.type.code, _said(message))
    return {key: tuple(said.values()) for key, said in made.items()}


def _said(message: Message) -> Said:
    code = message.type.code
    said = {"type": {"code": code, "name": _name(code)}, "level": message.type.level.name}
    return {**said, "documentationUrl": message.documentation} if message.documentation else said


def _name(code: str) -> str:
    return _NAMES.get(code) or _catalogued().get(code, code)


@functools.cache
def _catalogued() -> Mapping[str, str]:
    rows = {row.code: name for name, row in vars(catalogue).items() if isinstance(row, MessageType)}
    named = rows | {code.value: code.name for code in Code}
    return {code: "".join(part.capitalize() for part in name.split("_")) for code, name in named.items()}

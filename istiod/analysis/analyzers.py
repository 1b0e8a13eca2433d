"""All analyzers, by subject; what runs them and sorts their findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from istiod.analysis import (
    authorization,
    bindings,
    callers,
    compiled,
    conditions,
    deprecation,
    destination_rules,
    destinations,
    envoy_filters,
    gateway_api,
    gateway_conflicts,
    gateways,
    injection,
    injection_images,
    key_fetches,
    mtls_pairs,
    networks,
    object_annotations,
    precautions,
    routes,
    schema,
    service_entries,
    services,
    sidecars,
    telemetry,
    webhooks,
    workloads,
)
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection

ALL: Final[tuple[Analyzer, ...]] = (
    object_annotations.CHECK,
    object_annotations.ALPHA,
    authorization.ANALYZER,
    key_fetches.ANALYZER,
    conditions.ANALYZER,
    workloads.SERVICES,
    workloads.USERS,
    destination_rules.CERTIFICATES,
    destination_rules.SUBSETS,
    deprecation.ANALYZER,
    envoy_filters.ANALYZER,
    webhooks.EXTERNAL,
    gateways.PORTS,
    gateways.CERTIFICATES,
    gateways.SECRETS,
    gateway_conflicts.ANALYZER,
    injection.ANALYZER,
    injection_images.ANALYZER,
    injection.AUTO,
    gateway_api.SELECTORS,
    gateway_api.DEFINITIONS,
    networks.ANALYZER,
    services.ANALYZER,
    sidecars.ANALYZER,
    destinations.CONFLICTS,
    destinations.HOSTS,
    destinations.SUBSETS,
    bindings.GATEWAYS,
    bindings.CLAIMS,
    service_entries.ADDRESSES,
    service_entries.PROTOCOLS,
    webhooks.INJECTION_HOOKS,
    telemetry.PROVIDERS,
    telemetry.SELECTORS,
    telemetry.DEFAULTS,
    telemetry.LIGHTSTEP,
    *schema.analyzers(),
    compiled.ANALYZER,
    mtls_pairs.ANALYZER,
    routes.ANALYZER,
    callers.ANALYZER,
    precautions.ANALYZER,
)


def usual() -> list[Analyzer]:
    """Those that run unless others are named."""
    return [each for each in ALL if each.usual]


def run(chosen: Iterable[Analyzer], known: Collection) -> list[Message]:
    """The findings of some analyzers, each once, worst first."""
    found = {each.key: each for analyzer in chosen for each in analyzer.run(known)}
    return [found[key] for key in sorted(found)]

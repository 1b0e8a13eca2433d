"""EnvoyFilter: whether applyTo, match and patch fit together (features rows K1-K4; Istio: validateEnvoyFilter).

Whether a value is what Envoy's API asks for is found out where that API is known (istiod.envoy.patch_values).
"""

from __future__ import annotations

from typing import Final

from crds.checks import labels, values
from crds.checks.findings import Findings
from crds.envoy_filter import ConfigPatch, EnvoyFilter, FilterMatch, ObjectMatch, ProxyMatch

_LISTENERS: Final = frozenset({"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
_ROUTES: Final = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_OBJECTS: Final = ("listener", "route_configuration", "cluster", "waypoint")
_MANAGERS: Final = frozenset({"envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"})
_LAST_PORT: Final = 65_535


def check(item: EnvoyFilter, found: Findings) -> None:
    """Everything that one EnvoyFilter can be wrong about without knowing Envoy's API."""
    spec = item.spec
    if spec.workload_selector is not None and spec.target_refs:
        found.error("spec.targetRefs", "only one of workloadSelector and targetRefs can be set")
    if spec.workload_selector is not None:
        labels.selector(found, "spec.workloadSelector.labels", spec.workload_selector.labels)
    for index, patch in enumerate(spec.config_patches):
        _patch(found, f"spec.configPatches[{index}]", patch)


def _patch(found: Findings, field: str, said: ConfigPatch) -> None:
    if said.apply_to == "INVALID":
        found.missing(f"{field}.applyTo")
    if said.patch is None:
        found.missing(f"{field}.patch")
    elif said.patch.operation == "INVALID":
        found.missing(f"{field}.patch.operation")
    elif said.patch.operation != "REMOVE" and said.patch.value is None:
        found.missing(f"{field}.patch.value")
    if said.match is not None:
        _match(found, f"{field}.match", said.apply_to, said.match)


def _match(found: Findings, field: str, apply_to: str, match: ObjectMatch) -> None:
    if match.proxy is not None:
        _proxy(found, f"{field}.proxy", match.proxy)
    if (match.context == "WAYPOINT") != (match.waypoint is not None):
        found.error(f"{field}.context", "waypoint belongs to context WAYPOINT, and that to it")
    if match.waypoint is not None and not _is_port(match.waypoint.get("portNumber", 0)):
        found.error(f"{field}.waypoint.portNumber", "is no port")
    said = [name for name in _OBJECTS if getattr(match, name) is not None]
    if len(said) > 1:
        found.error(field, f"only one of {', '.join(said)} can be set")
    wanted = _object_of(apply_to)
    if said and wanted and said[0] not in (wanted, "waypoint"):
        found.error(field, f"{apply_to} is not found by {said[0]}, but by {wanted}")
    chain = match.listener.filter_chain if match.listener is not None else None
    if chain is not None and chain.filter is not None:
        _filter(found, f"{field}.listener.filterChain.filter", apply_to, chain.filter)


def _proxy(found: Findings, field: str, said: ProxyMatch) -> None:
    if said.proxy_version:
        found.check(f"{field}.proxyVersion", values.regex(said.proxy_version))
    if "" in said.metadata:
        found.error(f"{field}.metadata", "has a name that is empty")


def _is_port(said: object) -> bool:
    return isinstance(said, int) and 0 <= said <= _LAST_PORT


def _object_of(apply_to: str) -> str:
    if apply_to in _LISTENERS:
        return "listener"
    if apply_to in _ROUTES:
        return "route_configuration"
    return "cluster" if apply_to == "CLUSTER" else ""


def _filter(found: Findings, field: str, apply_to: str, said: FilterMatch) -> None:
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        found.warning(field, f"has no effect with {apply_to}")
    if not said.name:
        found.missing(f"{field}.name")
    elif said.sub_filter is not None:
        if apply_to != "HTTP_FILTER":
            found.error(f"{field}.subFilter", "is for HTTP_FILTER only")
        elif said.name not in _MANAGERS:
            found.error(f"{field}.name", "only the HTTP connection manager has filters inside of it")
        elif not said.sub_filter.name:
            found.missing(f"{field}.subFilter.name")

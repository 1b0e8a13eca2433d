"""Istio's bootstrap goldens, compared leaf by leaf: group bootstrap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent import bootstrap
from agent.bootstrap import inputs
from conformance import difference
from conformance.difference import Difference


def given(case: Mapping[str, Any]) -> inputs.Inputs:
    """A case's inputs as the agent has them."""
    fixed = case["fixed_inputs"]
    environment = dict(case["env_vars"] or {})
    if case["annotations"]:
        environment["ISTIO_METAJSON_ANNOTATIONS"] = json.dumps(case["annotations"])
    if case["compliance_policy"]:
        environment["COMPLIANCE_POLICY"] = case["compliance_policy"]
    return inputs.Inputs(
        kind="sidecar",
        config=case["proxy_config"],
        environment=environment,
        addresses=tuple(fixed["instance_ips"]),
        version=fixed["binary_version"],
        sds_socket=f"./var/run/secrets/workload-spiffe-uds/{fixed['workload_identity_socket_file']}",
        outlier_log_path=fixed["outlier_log_path"],
        node_id=fixed["node_id_given"],
    )


def golden(path: Path) -> Iterator[Difference]:
    """One golden. The order of things that have names does not matter."""
    case = json.loads(path.read_text())
    ours, theirs = _flat(bootstrap.build(given(case))), _flat(case["expected_bootstrap"])
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            yield difference.of("", key.removeprefix("."), theirs.get(key), ours.get(key))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path; list elements by name where they have one."""
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{path}.{key}").items()}
    if isinstance(value, list) and value:
        found: dict[str, Any] = {}
        for index, inner in enumerate(value):
            name = inner.get("name", index) if isinstance(inner, dict) else index
            found |= _flat(inner, f"{path}[{name}]")
        return found
    return {path: value}

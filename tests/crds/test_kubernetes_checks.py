"""Objects that only a folder can hold: an API server refuses them, and a bad port must cost nobody but its object."""

# Tables of YAML read better with one case to a line, however long.
# ruff: noqa: E501

from typing import Any

import pytest

from crds import text
from crds.parse import parse

CASES = [
    ("v1", "Service", "spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, fd00::1], ports: [{port: 80, targetPort: web}]}", []),
    ("v1", "Service", "spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 65535, targetPort: 1}]}", []),
    ("v1", "Service", "spec: {ports: [{port: -1}, {port: 80, targetPort: 70000}, {}]}", [
        "spec.ports[0].port", "spec.ports[1].targetPort", "spec.ports[2].port"]),
    ("v1", "Service", "spec: {ports: [{port: 1, protocol: UDP}, {port: 2, protocol: HTTP}]}", ["spec.ports[1].protocol"]),
    ("v1", "Service", "spec: {clusterIP: abc, clusterIPs: [None, x]}", ["spec.clusterIP", "spec.clusterIPs[0]"]),
    ("discovery.k8s.io/v1", "EndpointSlice", "{addressType: FQDN, ports: [{}, {port: 1}], endpoints: [{addresses: [a.b]}]}", []),
    ("discovery.k8s.io/v1", "EndpointSlice", "{ports: [{port: 5000000000}], endpoints: [{addresses: [10.0.0.1, nonsense]}]}", [
        "ports[0].port", "endpoints[0].addresses[1]"]),
    ("v1", "Pod", "{spec: {containers: [{ports: [{containerPort: 80}]}]}, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}}", []),
    ("v1", "Pod", "{spec: {containers: [{}, {ports: [{containerPort: 0}]}]}, status: {podIP: x, podIPs: [{ip: y}]}}", [
        "spec.containers[1].ports[0].containerPort", "status.podIP", "status.podIPs[0]"]),
    ("v1", "Pod", 'spec: {serviceAccountName: "a\\nb", containers: []}', ["spec.serviceAccountName"]),
    ("apps/v1", "Deployment", "spec: {template: {spec: {serviceAccountName: a.b, containers: [{ports: [{containerPort: 80}]}]}}}", []),
    ("apps/v1", "StatefulSet", "spec: {template: {spec: {serviceAccountName: a b, containers: [{ports: [{containerPort: 70000}]}]}}}", [
        "spec.template.spec.containers[0].ports[0].containerPort", "spec.template.spec.serviceAccountName"]),
]  # fmt: skip


@pytest.mark.parametrize(("version", "kind", "body", "fields"), CASES)
def test_ports_and_addresses_are_what_envoy_can_take(version: str, kind: str, body: str, fields: list[str]) -> None:
    rest: dict[str, Any] = text.load(body)
    parsed = parse({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, **rest})
    assert [finding.field for finding in parsed.diagnostics] == fields
    assert (parsed.object is None) == bool(fields)

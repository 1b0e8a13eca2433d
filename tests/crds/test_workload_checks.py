from __future__ import annotations

from typing import Any

import pytest

from crds.parse import parse


def found(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    document = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    return [(d.severity.value, d.field) for d in parse(document).diagnostics]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"address": "1.2.3.4", "ports": {"http": 80}, "labels": {"app.kubernetes.io/name": "a", "b": ""}}, []),
        ({"address": "vm.example.com"}, []),
        ({"address": "unix:///run/a"}, []),
        ({"address": "unix://@a"}, []),
        ({}, [("error", "spec.address")]),
        ({"network": "n"}, []),
        ({"address": "unix://run/a"}, [("error", "spec.address")]),
        ({"address": "unix:///run/"}, [("error", "spec.address")]),
        ({"address": "unix:///run/a", "ports": {"http": 1}}, [("error", "spec.ports")]),
        ({"address": "a.com:80"}, [("error", "spec.address")]),
        ({"address": "1.2.3.4", "ports": {"@": 80}}, [("error", 'spec.ports["@"]')]),
        ({"address": "1.2.3.4", "ports": {"http": 0}}, [("error", "spec.ports.http")]),
        ({"address": "1.2.3.4", "labels": {"a b": "c"}}, [("error", 'spec.labels["a b"]')]),
        ({"address": "1.2.3.4", "labels": {"-/a": "c"}}, [("error", 'spec.labels["-/a"]')]),
        ({"address": "1.2.3.4", "labels": {"a": "b c"}}, [("error", "spec.labels.a")]),
    ],
)
def test_an_entry_is_at_an_address_a_name_or_a_socket(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert found("WorkloadEntry", spec) == expected


IDLE = ("warning", "")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("error", "spec.template"), IDLE]),
        ({"template": {"ports": {"http": 0}}}, [("error", "spec.template.ports.http"), IDLE]),
        ({"template": {}, "metadata": {"labels": {"a": "!"}}}, [("error", "spec.metadata.labels.a"), IDLE]),
        ({"template": {}, "probe": {}}, [("error", "spec.probe"), IDLE]),
        ({"template": {}, "probe": {"grpc": {}}}, [IDLE]),
        (
            {"template": {}, "probe": {"grpc": {}, "tcpSocket": {"port": 1}, "periodSeconds": -1}},
            [("error", "spec.probe.periodSeconds"), ("error", "spec.probe"), IDLE],
        ),
        ({"template": {}, "probe": {"exec": {"command": [""]}}}, [("error", "spec.probe.exec.command"), IDLE]),
        ({"template": {}, "probe": {"httpGet": {"port": 80}}}, [IDLE]),
        ({"template": {}, "probe": {"httpGet": {"port": "web"}}}, [("error", "spec.probe.httpGet.port"), IDLE]),
        (
            {"template": {}, "probe": {"httpGet": {"port": 80, "scheme": "FTP", "httpHeaders": [{"name": "*"}]}}},
            [("error", "spec.probe.httpGet.scheme"), ("error", "spec.probe.httpGet.httpHeaders[0].name"), IDLE],
        ),
        (
            {"template": {}, "probe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "x-a", "value": "b"}]}}},
            [IDLE],
        ),
        ({"template": {}, "probe": {"tcpSocket": {}}}, [("error", "spec.probe.tcpSocket.port"), IDLE]),
        ({"template": {}, "probe": {"exec": {}}}, [("error", "spec.probe.exec.command"), IDLE]),
        ({"template": {}, "probe": {"exec": {"command": ["true"]}}}, [IDLE]),
    ],
)
def test_a_group_is_judged_and_says_that_it_has_no_effect(
    spec: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert found("WorkloadGroup", spec) == expected

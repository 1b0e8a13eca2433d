from __future__ import annotations

from typing import Any

import pytest

from crds.parse import parse

IDLE = ("warning", "")
LUA = {"lua": {"inlineCode": "function envoy_on_request(handle) end"}}
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "a"}


def found(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    document = {"apiVersion": "extensions.istio.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    return [(each.severity.value, each.field) for each in parse(document).diagnostics]


def variables(*names: str, **more: str) -> dict[str, Any]:
    return {"url": "a", "vmConfig": {"env": [{"name": name, **more} for name in names]}}


@pytest.mark.parametrize(
    "url", ["a", "a.com/b", "http://a.com/b", "oci://a:5000/b:v1", "file:///opt/b.wasm", "HTTPS://a"]
)
def test_a_module_is_at_a_url_or_is_an_image(url: str) -> None:
    assert found("WasmPlugin", {"url": url, "phase": "AUTHN", "priority": 10, "pluginConfig": {"a": [1]}}) == [IDLE]


@pytest.mark.parametrize("url", ["", "ftp://a", "#%a$#@", "http://", "http://a:b", "a b.com", "http://a:0/b"])
def test_a_module_cannot_be_anywhere_else(url: str) -> None:
    assert ("error", "spec.url") in found("WasmPlugin", {"url": url})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"url": "a", "sha256": "0" * 63}, "spec.sha256"),
        ({"url": "a", "sha256": "A" * 64}, "spec.sha256"),
        ({"url": "a", "pluginName": "a" * 257}, "spec.pluginName"),
        ({"url": "a", "imagePullSecret": "a" * 254}, "spec.imagePullSecret"),
        (variables(*(str(index) for index in range(257))), "spec.vmConfig.env"),
        (variables(""), "spec.vmConfig.env[0].name"),
        (variables("a" * 257), "spec.vmConfig.env[0].name"),
        (variables("a", "a"), "spec.vmConfig.env[1].name"),
        (variables("a", valueFrom="HOST", value="b"), "spec.vmConfig.env[0].value"),
        (variables("a", value="b" * 2049), "spec.vmConfig.env[0].value"),
        ({"url": "a", "match": [{"ports": [{}]}]}, "spec.match[0].ports[0].number"),
        ({"url": "a", "match": [{"ports": [{"number": 1}, {"number": 1}]}]}, "spec.match[0].ports[1].number"),
        ({"url": "a", "match": [{"ports": [{"number": 65536}]}]}, "spec.match[0].ports[0].number"),
        ({"url": "a", "targetRef": GATEWAY, "selector": {"matchLabels": {"a": "b"}}}, "spec"),
        ({"url": "a", "targetRefs": [{**GATEWAY, "name": ""}]}, "spec.targetRefs[0].name"),
    ],
)
def test_a_module_says_what_can_be(spec: dict[str, Any], field: str) -> None:
    assert ("error", field) in found("WasmPlugin", spec)


@pytest.mark.parametrize("name", ["pluginName", "imagePullSecret"])
def test_what_the_definition_alone_refuses_is_refused_when_it_is_new(name: str) -> None:
    assert found("WasmPlugin", {"url": "a", name: ""}) == [("warning", f"spec.{name}"), IDLE]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (LUA, [IDLE]),
        ({"wasm": {"url": "a", "sha256": "0" * 64}}, [IDLE]),
        ({**LUA, "match": [{"mode": "SERVER", "ports": [{"number": 80}, {"number": 81}]}]}, [IDLE]),
        (
            variables("a") | {"url": "a"},
            [("warning", "spec.url"), ("warning", "spec.vmConfig"), ("error", "spec"), IDLE],
        ),
        ({}, [("error", "spec"), IDLE]),
        ({**LUA, "wasm": {"url": "a"}}, [("error", "spec"), IDLE]),
        ({"wasm": {}}, [("error", "spec.wasm.url"), IDLE]),
        ({"lua": {}}, [("error", "spec.lua.inlineCode"), IDLE]),
        ({"lua": {"inlineCode": "a" * 65537}}, [("error", "spec.lua.inlineCode"), IDLE]),
        ({**LUA, "selector": {}, "targetRefs": [GATEWAY]}, [("error", "spec"), IDLE]),
    ],
)
def test_an_extension_is_a_module_or_a_script(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert found("TrafficExtension", spec) == expected

"""Values that must be refused (SEC41), and patterns that must cost nothing (SEC35); none hurts a neighbour.

What the checks refuse may stand in a store from before the checks ran: the mesh is built of it without an exception.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml

from crds import parse
from crds.diagnostic import Code, Severity
from istiod.config.store import ConfigStore
from istiod.envoy.compiler import Compiler
from istiod.mesh import context
from tests.mesh import fleet, world
from wire import names

ENTRY = "{hosts: [a.example], ports: [{name: tcp, number: 80, protocol: TCP}], %s}"
RULE = "{hosts: [web], http: [{%s}]}"
TO = "route: [{destination: {host: web}}]"
DIGITS = "9" * 5_000
"""More than Python turns into a number: it raised where objects are read."""
REFUSED = [
    (
        "VirtualService",
        RULE % "route: [{destination: {host: web, port: {number: 0}}}]",
        "route[0].destination.port.number",
    ),
    ("VirtualService", RULE % "route: [{destination: {host: web, port: {number: 65536}}}]", "destination.port.number"),
    ("VirtualService", RULE % "route: [{destination: {host: web}, weight: -1}]", "route[0].weight"),
    ("VirtualService", RULE % "route: [{}]", "route[0].destination"),
    ("VirtualService", RULE % "match: [{uri: {prefix: /}}]", "http[0]"),
    (
        "VirtualService",
        RULE % f'{TO}, headers: {{request: {{set: {{"x-a": "a\\r\\nb: c"}}}}}}',
        "headers.request.set.x-a",
    ),
    ("VirtualService", RULE % f'{TO}, headers: {{response: {{add: {{"x\\r\\ny": a}}}}}}', "headers.response.add"),
    ("VirtualService", f"{{hosts: ['*'], http: [{{{TO}}}]}}", "hosts"),
    (
        "VirtualService",
        f"{{hosts: [web], tcp: [{{match: [{{destinationSubnets: [10.0.0.0/33]}}], {TO}}}]}}",
        "destinationSubnets",
    ),
    ("ServiceEntry", "{hosts: [a.b], addresses: [10.0.0.0/33], ports: [{number: 80, name: a}]}", "addresses[0]"),
    ("ServiceEntry", "{hosts: [a.b], ports: [{number: 0, name: a}]}", "ports[0].number"),
    ("ServiceEntry", "{hosts: [a.b], ports: [{number: 65536, name: a}]}", "ports[0].number"),
    ("ServiceEntry", "{hosts: ['*'], ports: [{number: 80, name: a}]}", "hosts[0]"),
    ("Gateway", "{servers: [{hosts: [a.b], port: {number: 0, name: a, protocol: HTTP}}]}", "port.number"),
    ("Gateway", "{servers: [{hosts: [], port: {number: 80, name: a, protocol: HTTP}}]}", "hosts"),
    ("DestinationRule", "{host: ''}", "host"),
    ("AuthorizationPolicy", f"{{rules: [{{to: [{{operation: {{ports: ['{DIGITS}']}}}}]}}]}}", "operation.ports[0]"),
    ("AuthorizationPolicy", f"{{rules: [{{when: [{{key: destination.port, values: ['{DIGITS}']}}]}}]}}", "values[0]"),
    (
        "Sidecar",
        f"{{ingress: [{{port: {{number: 80, name: a, protocol: HTTP}}, defaultEndpoint: '127.0.0.1:{DIGITS}'}}]}}",
        "ingress[0].defaultEndpoint",
    ),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {tunnel: {targetHost: '%A%', targetPort: 1}}}",
        "tunnel.targetHost",
    ),
    (
        "Sidecar",
        "{ingress: [{port: {number: 65536, protocol: HTTP, name: a}, defaultEndpoint: '127.0.0.1:1'}]}",
        "port.number",
    ),
    ("ServiceEntry", ENTRY % "addresses: ['fe80::1%eth0']", "addresses[0]"),
    ("ServiceEntry", ENTRY % "addresses: ['fe80::%eth0/64']", "addresses[0]"),
    ("ServiceEntry", ENTRY % "resolution: STATIC, endpoints: [{address: 'fe80::1%eth0'}]", "endpoints[0].address"),
    ("WorkloadEntry", "{address: 'fe80::1%eth0'}", "address"),
    ("Sidecar", "{ingress: [{port: {number: 80, protocol: HTTP, name: a}, bind: 'fe80::1%eth0'}]}", "bind"),
    (
        "VirtualService",
        "{hosts: [w], tcp: [{match: [{destinationSubnets: ['fe80::%e/64']}], route: [{destination: {host: w}}]}]}",
        "destinationSubnets",
    ),
]


def document(kind: str, spec: str) -> dict[str, Any]:
    api = "security.istio.io/v1" if kind == "AuthorizationPolicy" else "networking.istio.io/v1"
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "x", "namespace": "default"},
        "spec": yaml.safe_load(spec),
    }


@pytest.mark.parametrize(("kind", "spec", "field"), REFUSED)
def test_it_is_refused_at_its_field_and_hurts_nobody_where_it_is_stored(kind: str, spec: str, field: str) -> None:
    said = document(kind, spec)
    parsed = parse.parse(said)
    errors = [found.field for found in parsed.diagnostics if found.severity is Severity.ERROR]
    assert (parsed.object, [each for each in errors if field in each] != []) == (None, True), errors
    store = ConfigStore()
    for item in (
        fleet.parsed(fleet.kube_service("web")),
        fleet.parsed(fleet.pod("web-1", "10.1.0.1")),
        world.read(said),
    ):
        store.apply(item)
    mesh = context.build(store.snapshot())
    proxy = fleet.proxy("client-1")
    compiled = Compiler().compile(context.scope(mesh, proxy), mesh.endpoints, context.view(mesh, proxy))
    assert compiled.get(names.CLUSTER, "outbound|80||web.default.svc.cluster.local") is not None


RESOLVED = [
    ("VirtualService", RULE % f"match: [{{uri: {{exact: /a/../b}}}}], {TO}", ["spec.http[0].match[0].uri.exact"]),
    ("VirtualService", RULE % f"match: [{{uri: {{prefix: /%2E%2e/b}}}}], {TO}", ["spec.http[0].match[0].uri.prefix"]),
    ("VirtualService", RULE % f"match: [{{uri: {{prefix: /.}}}}, {{uri: {{exact: /..a/.well-known}}}}], {TO}", []),
    (
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {paths: [/../admin, /a], notPaths: [/a, '/./a*', '*/..']}}]}]}",
        [f"spec.rules[0].to[0].operation.{field}" for field in ("paths[0]", "notPaths[1]", "notPaths[2]")],
    ),
    ("AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/.a/*', '*..', '/a/.*', '/a?b=/../c']}}]}]}", []),
]


@pytest.mark.parametrize(("kind", "spec", "fields"), RESOLVED)
def test_a_path_that_no_request_has_is_told(kind: str, spec: str, fields: list[str]) -> None:
    """Proxies resolve it before they look: accepted, as on Istio, and told (SEC41)."""
    parsed = parse.parse(document(kind, spec))
    assert parsed.object is not None
    assert [found.field for found in parsed.diagnostics if found.code is Code.UNREACHED_PATH] == fields


PATTERNS = [
    ("(a+)+$", True),
    ("((((a{1000}){1000}){1000}){1000})", False),
    ("a" * 1025, False),
    ("a" * 2**20, False),
    ("(" * 500 + ")" * 500, True),
    ("(?:" * 300 + "a" + "){2}" * 300, False),
    ("(a)\\1", False),
    ("(?=a)", False),
    ("[", False),
]


@pytest.mark.parametrize(
    ("pattern", "taken"), PATTERNS, ids=[re.sub(r"(.{20}).*", r"\1", each) for each, _ in PATTERNS]
)
def test_a_pattern_is_judged_by_re2_at_once(pattern: str, *, taken: bool) -> None:
    begun = time.process_time()
    spec = {
        "hosts": ["web"],
        "http": [{"match": [{"uri": {"regex": pattern}}], "route": [{"destination": {"host": "web"}}]}],
    }
    parsed = parse.parse({**document("VirtualService", "{}"), "spec": spec})
    assert (parsed.object is not None) == taken
    assert time.process_time() - begun < 1

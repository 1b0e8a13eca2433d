"""Whatever the checks let by, Envoy takes: fields of objects with values that nobody should write.

A seeded sample, since all of it takes minutes; another seed finds other things.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import json_format

from crds import parse
from crds.meta import Object
from istiod.config.resource import Resource, ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy import extensions, listener
from istiod.envoy.compiler import Compiler
from istiod.mesh import context
from tests import envoys
from tests.envoy import made, rich, test_real_envoy
from tests.mesh import fleet
from wire import names

SEED = 4
SAMPLE = 450
BATCH = 60
TEXTS = (
    *("", " ", "a b", "a\nb", "a\rb", "a\x00b", "a\tb", "é", "\u2028", "\x7f", "a" * 3000),
    *("%", "%%", "50%", "%BAD%", "%REQ(", "%REQ(:path)%", ":authority", "Host", "content-length"),
    *("*", "*.b.c", "*b.c", "*-a.b.c", "a.b.", "A.B", "x:y", "1.2.3.4", "::1", "10.0.0.0/33", "0.0.0.0/0"),
    *("/", "//", "?a=b", "#", "http://x", "\\1", "\\9", "(", "[", "{", "{a}", "-", "_"),
)
NUMBERS = (0, 1, -1, 99, 101, 200, 302, 304, 599, 65535, 65536, 8388609, 2**31, 2**32 - 1, 2**32, 2**63)
DURATIONS = ("0s", "1ns", "0.5ms", "1ms", "-1s", "49h", "3000000000s", "9223372036s", "400000000000s")
FLOATS = (0.0, 1e-9, 50.5, 100.0, 100.1, -1.0, float("nan"), 1e300)
OPEN = frozenset(("set", "add", "headers", "withoutHeaders", "queryParams", "labels", "ports", "to"))
"""Fields whose keys are the user's too."""

OBJECTS = """
kind: VirtualService
spec:
  hosts: [web, x.example]
  gateways: [mesh, gw]
  http:
  - name: all
    match:
    - {name: m, uri: {exact: /x}, headers: {x-h: {regex: a+}}, withoutHeaders: {x-w: {prefix: p}}, method: {exact: GET},
       queryParams: {q: {exact: e}}, authority: {prefix: a}, scheme: {exact: https}, port: 80}
    headers: &h
      request: {set: {x-a: v}, add: {x-b: v}, remove: [x-c]}
      response: {set: {x-d: v}, add: {x-e: v}, remove: [x-f]}
    route:
    - {destination: {host: web, port: {number: 80}}, weight: 1, headers: *h}
    - {destination: {host: shop, subset: v1}, weight: 2}
    timeout: 1s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "5xx,503", backoff: 1s}
    fault:
      delay: {percentage: {value: 50.5}, fixedDelay: 1s}
      abort: {httpStatus: 503, percentage: {value: 50.5}}
    corsPolicy: {allowOrigins: [{exact: "http://x"}, {regex: a+}], allowMethods: [GET], allowHeaders: [x-a],
                 exposeHeaders: [x-b], maxAge: 1s}
    mirrors: [{destination: {host: shop}, percentage: {value: 50.5}}]
  - {match: [{uri: {prefix: /p}}], rewrite: {uri: /q, authority: h}, route: [{destination: {host: web}, headers: *h}]}
  - {match: [{uri: {regex: /z+}}], rewrite: {uri: /q}, route: [{destination: {host: web}}]}
  - {match: [{uri: {regex: /a(b)}}], rewrite: {uriRegexRewrite: {match: /a(b), rewrite: '/\\1'}},
     route: [{destination: {host: web}}]}
  - {match: [{uri: {exact: /r}}], redirect: {uri: /q, authority: h, port: 8080, scheme: https, redirectCode: 302}}
  - {match: [{uri: {prefix: /r}}], redirect: {prefixRewrite: /q, redirectCode: 301}}
  - {match: [{uri: {prefix: /d}}], directResponse: {status: 404, body: {string: x}}, headers: *h}
  tls: [{match: [{sniHosts: [x.example], destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: web}}]}]
  tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}],
         route: [{destination: {host: web}, weight: 1}, {destination: {host: shop}, weight: 2}]}]
---
kind: DestinationRule
spec:
  host: web
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 1s, idleTimeout: 1s, maxConnectionDuration: 1s,
            tcpKeepalive: {probes: 3, time: 1s, interval: 1s}}
      http: {http1MaxPendingRequests: 1, http2MaxRequests: 1, maxRequestsPerConnection: 1, maxRetries: 1,
             idleTimeout: 1s, maxConcurrentStreams: 5, http2KeepAlive: {interval: 1s, timeout: 1s}}
    outlierDetection: {consecutive5xxErrors: 1, consecutiveGatewayErrors: 1, consecutiveLocalOriginFailures: 1,
                       splitExternalLocalOriginErrors: true, interval: 1s, baseEjectionTime: 1s,
                       maxEjectionPercent: 10, minHealthPercent: 10}
    loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1s, minimumPercent: 10.0, aggression: 1.0}}
    tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, sni: a.b, subjectAltNames: [a.b]}
    retryBudget: {percent: 20.5, minRetryConcurrency: 3}
  subsets:
  - {name: v1, labels: {version: v1},
     trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-h, ringHash: {minimumRingSize: 5}}}}}
  - {name: v2, trafficPolicy: {loadBalancer: {consistentHash: {
       httpCookie: {name: c, path: /p, ttl: 1s, attributes: [{name: a, value: b}]}, maglev: {tableSize: 101}}}}}
  - {name: v3, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}}}}
---
kind: Gateway
spec:
  selector: {app: gw}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example]
    bind: 10.0.0.1
    tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, subjectAltNames: [a.b],
          cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256],
          verifyCertificateSpki: [NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=]}
  - {port: {number: 444, name: tls, protocol: TLS}, hosts: [x.example], tls: {mode: PASSTHROUGH}}
---
kind: ServiceEntry
spec:
  hosts: [e.example]
  addresses: [10.9.0.0/16]
  ports:
  - {number: 443, name: tls, protocol: TLS, targetPort: 8443}
  - {number: 81, name: http, protocol: HTTP}
  - {number: 9000, name: tcp, protocol: TCP}
  resolution: STATIC
  endpoints: [{address: 1.2.3.4, ports: {tls: 8444}, weight: 3, locality: a/b/c, labels: {version: v1}}]
  subjectAltNames: [spiffe://x]
"""
KEPT = frozenset(("kind", "protocol", "mode", "resolution", "simple"))
PLAIN = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
MESH = (
    fleet.kube_service("web"),
    fleet.kube_service("shop"),
    fleet.istio("DestinationRule", "shop", {"host": "shop", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
    fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [PLAIN]}),
)
PROXIES = (fleet.proxy("client-1"), fleet.proxy("gw-1", "default", "router", LABELS={"app": "gw"}))


def steps(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every leaf of a tree with its path."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if children is None:
        yield place, node
        return
    for name, child in children:
        yield from steps(child, (*place, name))


def pool(old: object) -> tuple[object, ...]:
    if isinstance(old, bool):
        return (not old,)
    if isinstance(old, int):
        return NUMBERS
    if isinstance(old, float):
        return FLOATS
    return DURATIONS if re.fullmatch(r"[0-9.]+m?s", str(old)) else TEXTS


def variants(document: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], object, dict[str, Any]]]:
    """The document with one leaf, or one of the user's own keys, that is something else."""
    for place, old in steps(document["spec"], ("spec",)):
        if place[-1] in KEPT:
            continue
        for value in pool(old):
            changed, parent = _parent(document, place)
            parent[place[-1]] = value
            yield place, value, changed
        for depth in [i for i, step in enumerate(place[:-1]) if step in OPEN and isinstance(place[i + 1], str)]:
            for value in TEXTS:
                changed, parent = _parent(document, place[: depth + 2])
                parent[value] = parent.pop(place[depth + 1])
                yield place[: depth + 2], f"key {value!r}", changed


def _parent(document: dict[str, Any], place: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    changed = copy.deepcopy(document)
    parent: Any = changed
    for step in place[:-1]:
        parent = parent[step]
    return changed, parent


def resources(item: Object) -> list[ResourceSet]:
    store = ConfigStore()
    for one in (*(fleet.parsed(text) for text in MESH), item):
        store.apply(one)
    mesh = context.build(store.snapshot())
    compiler = Compiler()
    proxies = map(envoys.running, PROXIES)
    return [compiler.compile(context.scope(mesh, p), mesh.endpoints, context.view(mesh, p)) for p in proxies]


_KINDS = (names.CLUSTER, names.LISTENER, names.ROUTE, names.EXTENSION)


def together(several: list[ResourceSet]) -> bootstrap_pb2.Bootstrap:
    """All of them in one bootstrap: each different resource once, under names and addresses of its own."""
    found = json_format.ParseDict(test_real_envoy.BOOTSTRAP, bootstrap_pb2.Bootstrap())
    seen: set[str] = set()
    holder = envoys.served(listener.message(rich.outbound_listeners()[1], made.QUIET))
    for target in several:
        for each in (r for kind in _KINDS for r in target.of(kind)):
            if each.version not in seen:
                seen.add(each.version)
                _add(found, each, len(seen), holder)
    return found


def _add(found: bootstrap_pb2.Bootstrap, each: Resource, number: int, holder: listener_pb2.Listener) -> None:
    if each.type_url == names.CLUSTER:
        cluster = found.static_resources.clusters.add()
        cluster.CopyFrom(made.parsed(each, cluster_pb2.Cluster))
        extensions.forget(cluster)
        cluster.name = f"{number} {cluster.name}"
        return
    added = found.static_resources.listeners.add()
    if each.type_url == names.LISTENER:
        added.CopyFrom(made.parsed(each, listener_pb2.Listener))
    else:
        added.CopyFrom(holder)
        manager = made.manager(added.filter_chains[0])
        if each.type_url == names.ROUTE:
            manager.route_config.CopyFrom(made.parsed(each, route_pb2.RouteConfiguration))
        else:
            said = made.parsed(each, extension_pb2.TypedExtensionConfig)
            manager.http_filters.insert(0, hcm_pb2.HttpFilter(name=said.name, typed_config=said.typed_config))
        added.filter_chains[0].filters[0].typed_config.Pack(manager)
    added.name = f"{number} {added.name}"
    added.address.socket_address.address, added.address.socket_address.port_value = "10.77.0.1", number


def refused(several: list[tuple[str, list[ResourceSet]]], folder: Path) -> Iterator[str]:
    """Those that Envoy refuses, with its words."""
    code, said = test_real_envoy.verdict(together([target for _, targets in several for target in targets]), folder)
    if code == 0:
        return
    if len(several) == 1:
        yield f"{several[0][0]}: {said[-300:]}"
        return
    half = len(several) // 2
    yield from refused(several[:half], folder)
    yield from refused(several[half:], folder)


@pytest.mark.envoy
def test_envoy_takes_whatever_the_checks_let_by(tmp_path: Path) -> None:
    documents = [
        {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "hostile", "namespace": "default"}, **one}
        for one in yaml.safe_load_all(OBJECTS)
    ]
    every = [variant for document in documents for variant in variants(document)]
    chosen = random.Random(SEED).sample(every, SAMPLE)
    taken = [(f"{place} = {value!r}", parse.parse(d).object) for place, value, d in chosen]
    compiled = [(name, resources(item)) for name, item in taken if item is not None]
    assert len(compiled) > SAMPLE / 2
    batches = [compiled[i : i + BATCH] for i in range(0, len(compiled), BATCH)]
    assert [problem for batch in batches for problem in refused(batch, tmp_path)] == []

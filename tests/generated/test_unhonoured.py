"""The table of fields without effect is complete and true: what no row names is read, what a row names is not.

Reads are recorded on the models while generated objects are built and compiled, so that two fields of one name are
told apart. Code in ``crds`` checks and converts; only what stands in ``istiod`` reads for the mesh.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from crds import (
    core,
    destination_rule,
    envoy_filter,
    gateway,
    mesh_config,
    peer_authentication,
    proxy_annotation,
    proxy_config,
    service_entry,
    sidecar,
    telemetry,
    unhonoured,
    virtual_service,
)
from crds.diagnostic import Code
from crds.key import NETWORKING
from crds.meta import Model, Object
from istiod.config.store import ConfigSnapshot, ConfigStore
from istiod.mesh import context
from tests.generated import configurations, test_generated
from tests.generated.maker import Maker
from tests.generated.rules import NEEDED, RULES
from tests.mesh import fleet, world
from tools import fields as page

KINDS: Mapping[str, type[Model]] = {
    "VirtualService": virtual_service.VirtualService,
    "DestinationRule": destination_rule.DestinationRule,
    "Gateway": gateway.Gateway,
    "ServiceEntry": service_entry.ServiceEntry,
    "Sidecar": sidecar.Sidecar,
    "EnvoyFilter": envoy_filter.EnvoyFilter,
    "PeerAuthentication": peer_authentication.PeerAuthentication,
    "Telemetry": telemetry.Telemetry,
    "MeshConfig": mesh_config.MeshConfig,
}
OTHER_KINDS: Mapping[str, type[Model]] = {
    "ProxyConfig": proxy_config.ProxyConfig,
    "Service": core.Service,
}
"""Kinds that have rows, of which the mesh does not read every field."""
SEEDS = range(500, 560)
ELSEWHERE: Mapping[str, str] = {
    "Gateway spec.servers[].name": "is a name; the checks want it to be unique",
    "MeshConfig discoverySelectors[].matchExpressions": "istiod.watch.selection",
    "MeshConfig discoverySelectors[].matchLabels": "istiod.watch.selection",
    "MeshConfig enablePrometheusMerge": "webhook.values",
    "Telemetry spec.tracing[].customTags[]": "crds.span_tags",
    "Telemetry spec.targetRef": "the object is told to have no effect as a whole",
    "MeshConfig extensionProviders[].opentelemetry.resourceDetectors.environment": "wire.telemetry, asked or not",
}
"""Fields, with all below, that the mesh does not read and that have an effect all the same, or are told as a whole."""
SHARED: Mapping[str, str] = {
    "MeshConfig meshMTLS.ecdhCurves": "read of tlsDefaults",
    **{
        f"MeshConfig extensionProviders[].{name}": "read to say that nothing is traced"
        for name in ("lightstep", "opencensus", "stackdriver")
    },
    "EnvoyFilter spec.targetRefs": "read to patch nobody",
    "ServiceEntry spec.endpoints[].network": "read for the label of the network",
    "Sidecar spec..connectionPool.http.h2UpgradePolicy": "read for clients' connections",
    "Sidecar spec.inboundConnectionPool.http.h2UpgradePolicy": "read for clients' connections",
    "Sidecar spec..connectionPool.tcp.idleTimeout": "read for clients' connections",
    "Sidecar spec.inboundConnectionPool.tcp.idleTimeout": "read for clients' connections",
    "Sidecar spec..tls.caCertCredentialName": "read of Gateways",
    **{
        f"MeshConfig defaultTrafficPolicy.{name}": "read of DestinationRules"
        for name in ("loadBalancer", "portLevelSettings", "proxyProtocol", "retryBudget", "tls", "tunnel")
    },
}
"""Rows whose field is read, for something else."""
SAMPLES = """
kind: DestinationRule
spec:
  host: web
  trafficPolicy:
    loadBalancer: {simple: RANDOM, warmupDurationSecs: 1s}
    outlierDetection: {consecutiveErrors: 3}
    tls: {mode: DISABLE, clientCertificate: a, privateKey: a, caCertificates: a, caCrl: a, credentialName: a,
          insecureSkipVerify: true, sni: a, subjectAltNames: [a]}
  subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}}},
            {name: v2, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: a}, zoneAwareLbSetting: {}}}}]
---
kind: EnvoyFilter
spec:
  targetRefs: [{kind: Gateway, name: a}]
---
kind: EnvoyFilter
spec:
  configPatches:
  - {applyTo: BOOTSTRAP, patch: {operation: ADD, value: {}}}
  - {applyTo: EXTENSION_CONFIG, patch: {operation: MERGE, value: {}}}
  - {applyTo: CLUSTER, match: {context: WAYPOINT, waypoint: {a: b}}, patch: {operation: REMOVE, filterClass: AUTHN}}
  - {applyTo: LISTENER, match: {listener: {portName: a, filterChain: {transportSocket: a}}}, patch: {operation: REMOVE}}
  - {applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: {name: a}}}}},
     patch: {operation: REMOVE}}
  - {applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {route: {name: a, action: ROUTE}}}},
     patch: {operation: REMOVE}}
---
kind: Gateway
spec:
  selector: {app: gw}
  servers:
  - {port: {number: 80, name: a, protocol: HTTP}, hosts: [a.b], tls: &all {
       mode: SIMPLE, serverCertificate: a, privateKey: a, caCertificates: a, caCrl: a, credentialName: a,
       tlsCertificates: [{serverCertificate: a}], credentialNames: [a], caCertCredentialName: a, subjectAltNames: [a],
       verifyCertificateSpki: [a], verifyCertificateHash: [a], minProtocolVersion: TLSV1_2,
       maxProtocolVersion: TLSV1_3, cipherSuites: [a], insecureSkipVerify: true}}
  - {port: {number: 81, name: b, protocol: UDP, targetPort: 1}, hosts: [a.b], defaultEndpoint: a}
  - {port: {number: 82, name: c, protocol: HTTPS}, hosts: [a.b], tls: {mode: SIMPLE, httpsRedirect: true,
       tlsCertificates: [{serverCertificate: a, privateKey: b, caCertificates: c}]}}
---
kind: Sidecar
spec:
  inboundConnectionPool: &pool {http: {h2UpgradePolicy: UPGRADE}, tcp: {idleTimeout: 1s}}
  ingress:
  - {port: {number: 80, name: a, protocol: HTTPS, targetPort: 1}, connectionPool: *pool,
     tls: {mode: PASSTHROUGH, serverCertificate: a, privateKey: a, caCertificates: a, caCrl: a, credentialName: a,
           tlsCertificates: [{serverCertificate: a, caCertificates: c}], credentialNames: [a], caCertCredentialName: a,
           subjectAltNames: [a], verifyCertificateSpki: [a], verifyCertificateHash: [a], minProtocolVersion: TLSV1_2,
           maxProtocolVersion: TLSV1_3, cipherSuites: [a], insecureSkipVerify: true, httpsRedirect: true}}
  egress: [{bind: "unix:///a", port: {number: 1, protocol: HTTP, name: a, targetPort: 1}, hosts: ["*/*"]}]
  outboundTrafficPolicy: {egressProxy: {host: a}}
---
kind: ServiceEntry
spec:
  hosts: ["*.a.example"]
  ports: [{number: 80, name: a, protocol: HTTP, targetPort: 1}]
  resolution: DYNAMIC_DNS
  endpoints: [{address: "unix:///a", network: a}]
---
kind: ServiceEntry
spec:
  hosts: [far.example]
  ports: [{number: 80, name: a, protocol: HTTP}]
  resolution: DNS
  endpoints: [{address: far.example, network: a}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
spec: {accessLogging: [{disabled: true}], metrics: [{reportingInterval: 1s, overrides: [
         {match: {customMetric: a}}, {match: {metric: GRPC_REQUEST_MESSAGES}}]}], tracing: [{match: {mode: CLIENT}}]}
---
kind: VirtualService
spec:
  hosts: [web]
  http:
  - {delegate: {name: a}}
  - {match: [{headers: {"@request.auth.claims.a": {exact: a}}, withoutHeaders: {"@request.auth.claims.a": {}},
              statPrefix: a}], directResponse: {status: 200}, mirror: {host: a}, mirrors: [{destination: {host: a}}],
     retries: {attempts: 1}, timeout: 1s, appendHeaders: {a: b}, removeResponseHeaders: {a: b}, websocketUpgrade: true,
     fault: {abort: {http2Error: a}, delay: {exponentialDelay: 1s}}}
  tcp: [{match: [{sourceSubnet: a}]}]
  tls: [{match: [{sourceSubnet: a}]}]
"""
"""What the checks may refuse is here, too: it may be stored all the same."""
PROXY = (
    "{connectionSettings: {profile: EDGE}, proxyMetadata: {CA_PROVIDER: a},"
    " proxyHeaders: {attemptCount: {}, preserveHttp1HeaderCase: true, xForwardedHost: {}}}"
)
OTHERS = (
    fleet.pod("told-1", "10.7.0.1", annotations={"proxy.istio.io/config": PROXY}),
    fleet.kube_service("tcp", ports=[{"name": "tcp", "port": 9000}], spec={"sessionAffinity": "ClientIP"}),
    fleet.kube_service("told", annotations={"networking.istio.io/traffic-distribution": "x"}),
    fleet.istio(
        "DestinationRule",
        "tcp",
        {"host": "tcp", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "a"}}}},
    ),
)
MEASURED = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all, namespace: istio-system}
spec:
  accessLogging: [{match: {mode: SERVER}, providers: [{name: file}], disabled: false, filter: {expression: "true"}}]
  metrics:
  - providers: [{name: numbers}]
    overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, disabled: false,
                 tagOverrides: {a: {operation: UPSERT, value: request.host}, b: {operation: REMOVE}}}]
  tracing:
  - {match: {mode: SERVER}, providers: [{name: spans}], randomSamplingPercentage: 1, disableSpanReporting: false,
     disableContextPropagation: false, useRequestIdForTraceSampling: true, enableIstioTags: true,
     customTags: {a: {literal: {value: a}}, b: {environment: {name: A, defaultValue: a}},
                  c: {header: {name: a, defaultValue: a}}, d: {formatter: {value: a}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: own, namespace: default}
spec: {selector: {matchLabels: {app: web}}, accessLogging: [{disabled: true}]}
"""
"""Nothing but what has an effect: whether it is read at all is what it is for."""
_PROVIDERS = """
extensionProviders:
- {name: numbers, prometheus: {}}
- {name: file, envoyFileAccessLog: {path: /dev/stdout}}
- {name: spans, zipkin: {service: web.default.svc.cluster.local, port: 80}}
"""
Reads = set[tuple[type[Model], str]]


def recorded(seeds: range) -> Reads:
    """Everything that istiod reads of generated objects, and of MeshConfig's."""
    found: Reads = set()
    plain = Model.__getattribute__

    def reading(self: Model, name: str) -> Any:
        if name in type(self).__pydantic_fields__ and "/istiod/" in sys._getframe(1).f_code.co_filename:
            found.add((type(self), name))
        return plain(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "__getattribute__", reading)
        for seed in seeds:
            items = [configurations.accepted(one) for one in configurations.configuration(seed, full=0.7, odd=0.0)]
            test_generated.resources([*(item for item in items if item is not None), settings(seed)])
        context.build(stored(samples()))
        measured = [world.read(one) for one in yaml.safe_load_all(MEASURED)]
        test_generated.resources([*measured, fleet.parsed(fleet.mesh_config(_PROVIDERS))])
    return found


def settings(seed: int) -> Object:
    said = Maker(seed, RULES, NEEDED, full=0.7, odd=0.0).model(mesh_config.MeshConfig)
    return fleet.parsed(fleet.mesh_config(yaml.safe_dump(said)))


def leaves(model: type[Model]) -> Iterator[tuple[str, type[Model], str]]:
    """Path, model and name of every field."""
    for steps in unhonoured.fields(model):
        yield ".".join(step.alias for step in steps), steps[-1].model, steps[-1].name


def test_every_field_is_read_or_told_and_no_field_that_is_always_told_is_read() -> None:
    reads = recorded(SEEDS)
    unread, untrue = [], []
    for kind, model in KINDS.items():
        rows = [row for row in unhonoured.ROWS if row.kind == kind and not row.when]
        for path, owner, name in leaves(model):
            known = f"{kind} {path}"
            if not path.startswith("spec" if kind != "MeshConfig" else "") or path.startswith("defaultConfig"):
                continue
            told = [row for row in rows if row.covers(path)]
            exempt = any(known.startswith(each) for each in ELSEWHERE)
            if not (told or exempt or (owner, name) in reads):
                unread.append(known)
            own = [row for row in told if row.is_of(path) and f"{kind} {row.field}" not in SHARED]
            untrue += [known for _ in own if (owner, name) in reads]
    assert (unread, untrue) == ([], [])


def test_proxies_settings_that_are_never_read_are_told_and_no_others() -> None:
    """They are read in three programs, so that their names in the source have to do."""
    root = Path(unhonoured.__file__).parent.parent
    sources = "\n".join(
        path.read_text()
        for part in ("istiod", "webhook", "agent", "crds/proxy_annotation.py")
        for path in files(root / part)
    )
    told = {row.field for row in unhonoured.ROWS if row.kind == "ProxyConfig" and not row.when}
    never = {
        field.alias or name
        for name, field in proxy_config.ProxyConfig.model_fields.items()
        if not re.search(rf"\b(?:{name}|{field.alias})\b", sources)
    }
    assert never <= told


def files(part: Path) -> Iterator[Path]:
    return iter([part]) if part.is_file() else part.rglob("*.py")


def samples() -> list[Object]:
    found = [
        world.read(
            {"apiVersion": f"{NETWORKING}/v1", "metadata": {"name": f"sample-{index}", "namespace": "default"}, **one}
        )
        for index, one in enumerate(yaml.safe_load_all(SAMPLES))
    ]
    return [*found, *(fleet.parsed(one) for one in OTHERS)]


def stored(items: list[Object]) -> ConfigSnapshot:
    store = ConfigStore()
    for item in items:
        store.apply(item)
    return store.snapshot()


def told() -> Iterator[tuple[str, str]]:
    """(kind, path) of everything that samples and generated objects are told to say in vain."""
    for items in (samples(), *([settings(seed)] for seed in SEEDS[:20])):
        for found in context.build(stored(items)).diagnostics:
            if found.code is Code.NOT_SUPPORTED and found.key is not None:
                yield (
                    _of_settings(found.field)
                    if found.key.kind in ("ConfigMap", "Pod")
                    else (found.key.kind, found.field)
                )


def _of_settings(field: str) -> tuple[str, str]:
    annotation = f"{proxy_annotation.FIELD}."
    for start, kind in (
        ("data.mesh.defaultConfig.", "ProxyConfig"),
        ("data.mesh.", "MeshConfig"),
        (annotation, "ProxyConfig"),
    ):
        if field.startswith(start):
            return kind, field.removeprefix(start)
    raise AssertionError(field)


def test_every_row_is_told_by_some_object_and_every_finding_has_a_row() -> None:
    found = set(told())
    rows = {row for row in unhonoured.ROWS for kind, path in found if row.kind == kind and row.covers(path)}
    bare = {each for each in found if not any(row.kind == each[0] and row.covers(each[1]) for row in unhonoured.ROWS)}
    assert (bare, [row for row in unhonoured.ROWS if row not in rows]) == (set(), [])


def test_rows_are_sorted_and_name_fields() -> None:
    models = {**KINDS, **OTHER_KINDS}
    lines = [[cell.strip() for cell in line.split("|")] for line in unhonoured.TABLE.strip().splitlines()]
    assert lines == sorted(lines)
    for row in unhonoured.ROWS:
        assert any(row.is_of(path) for path, _, _ in leaves(models[row.kind])), row


def test_the_page_is_what_make_generate_writes() -> None:
    assert (page.ROOT / page.NAME).read_text() == page.text()

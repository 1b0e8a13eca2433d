"""Fields that are read and not honoured: the one table that findings (``M0108``) and docs/fields.md are made of.

A row without ``when`` is a field that nothing looks at; ``said`` finds those in an object, and whoever makes a field
work deletes its row. A row with ``when`` is a field that has an effect else; the code that reads it knows the case
and reports it. Tests hold the table against what the code reads and reports. Kinds that have no effect as a whole are
crds.registry's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, get_args, get_origin

from crds.diagnostic import Code, Diagnostic, warning
from crds.meta import Model, Object

_YET: Final = "is read and has no effect yet"

# One line a row, sorted: kinds | field | when (empty: always) | why (empty: nobody made it work yet).
# `[]` is any item, `..` any steps in between.
TABLE: Final = """
DestinationRule | spec..loadBalancer.consistentHash | on TCP, unless by useSourceIp | TCP has only an address to hash
DestinationRule | spec..loadBalancer.warmup | with RANDOM, PASSTHROUGH or consistentHash | Envoy has no slow start there
DestinationRule | spec..loadBalancer.warmupDurationSecs | as warmup | Envoy has no slow start there
DestinationRule | spec..loadBalancer.zoneAwareLbSetting | with PASSTHROUGH or consistentHash | no zone is chosen there
DestinationRule | spec..outlierDetection.consecutiveErrors | | has no effect, as on Istio: consecutive5xxErrors has
DestinationRule | spec..tls.caCertificates | modes DISABLE and ISTIO_MUTUAL; beside credentialName | is not used
DestinationRule | spec..tls.caCrl | as caCertificates; beside insecureSkipVerify | is not used
DestinationRule | spec..tls.clientCertificate | modes but MUTUAL; beside credentialName | is not used
DestinationRule | spec..tls.credentialName | DISABLE, ISTIO_MUTUAL; sidecars without workloadSelector | as on Istio
DestinationRule | spec..tls.insecureSkipVerify | modes DISABLE and ISTIO_MUTUAL | is not used
DestinationRule | spec..tls.privateKey | modes but MUTUAL; beside credentialName | is not used
DestinationRule | spec..tls.sni | mode DISABLE | is not used
DestinationRule | spec..tls.subjectAltNames | mode DISABLE | is not used
EnvoyFilter | spec.configPatches[].match.context | WAYPOINT | there are no waypoints here
EnvoyFilter | spec.configPatches[].match.listener.filterChain.transportSocket | | has no effect, as on Istio
EnvoyFilter | spec.configPatches[].match.listener.portName | | has no effect, as on Istio
EnvoyFilter | spec.configPatches[].match.waypoint | | there are no waypoints here
EnvoyFilter | spec.configPatches[].patch.filterClass | | has no effect, as on Istio
EnvoyFilter | spec.configPatches[].patch.operation | BOOTSTRAP, other than MERGE | bootstraps are merged with
EnvoyFilter | spec.configPatches[].patch.operation | EXTENSION_CONFIG, other than ADD | has no effect, as on Istio
EnvoyFilter | spec.targetRefs | | resources of the Gateway API have no proxies here: no proxy is patched
Gateway | spec..tls.caCertCredentialName | without clients' certificates | is not used
Gateway | spec.servers[].defaultEndpoint | | has no effect, as on Istio
Gateway | spec.servers[].port.protocol | other than HTTP, HTTPS, gRPC, TLS and TCP kinds | the server is left out
Gateway | spec.servers[].port.targetPort | | has no effect, as on Istio
Gateway | spec.servers[].tls.mode | on a port without TLS | is not used
Gateway, Sidecar | spec..tls.caCertificates | without clients' certificates; beside a credential | is not used
Gateway, Sidecar | spec..tls.caCrl | without clients' certificates; beside a credential | is not used
Gateway, Sidecar | spec..tls.cipherSuites | where TLS is not ended; names that Envoy does not know | is not used
Gateway, Sidecar | spec..tls.credentialName | where TLS is not ended | is not used
Gateway, Sidecar | spec..tls.credentialNames | where TLS is not ended | is not used
Gateway, Sidecar | spec..tls.httpsRedirect | on a port with TLS | is not used
Gateway, Sidecar | spec..tls.insecureSkipVerify | without clients' certificates; mode ISTIO_MUTUAL | is not used
Gateway, Sidecar | spec..tls.maxProtocolVersion | where TLS is not ended | is not used
Gateway, Sidecar | spec..tls.minProtocolVersion | where TLS is not ended | is not used
Gateway, Sidecar | spec..tls.privateKey | where TLS is not ended | is not used
Gateway, Sidecar | spec..tls.serverCertificate | where TLS is not ended | is not used
Gateway, Sidecar | spec..tls.subjectAltNames | without clients' certificates | is not used
Gateway, Sidecar | spec..tls.tlsCertificates | where TLS is not ended; mode ISTIO_MUTUAL | is not used
Gateway, Sidecar | spec..tls.tlsCertificates[].caCertificates | | has no effect, as on Istio: tls.caCertificates has
Gateway, Sidecar | spec..tls.verifyCertificateHash | without clients' certificates | is not used
Gateway, Sidecar | spec..tls.verifyCertificateSpki | without clients' certificates | is not used
MeshConfig | ca | |
MeshConfig | caCertificates | |
MeshConfig | certificates | |
MeshConfig | configSources | |
MeshConfig | defaultProviders.tracing | more than one | the first counts, as on Istio
MeshConfig | defaultTrafficPolicy.loadBalancer | | only connectionPool and outlierDetection count, as on Istio
MeshConfig | defaultTrafficPolicy.outlierDetection.consecutiveErrors | | has no effect, as on Istio
MeshConfig | defaultTrafficPolicy.portLevelSettings | | only connectionPool and outlierDetection count, as on Istio
MeshConfig | defaultTrafficPolicy.proxyProtocol | | only connectionPool and outlierDetection count, as on Istio
MeshConfig | defaultTrafficPolicy.retryBudget | | only connectionPool and outlierDetection count, as on Istio
MeshConfig | defaultTrafficPolicy.tls | | only connectionPool and outlierDetection count, as on Istio
MeshConfig | defaultTrafficPolicy.tunnel | | only connectionPool and outlierDetection count, as on Istio
MeshConfig | disableMixerHttpReports | | has no effect, as on Istio
MeshConfig | discoverySelectors | with --configDir | chooses nothing among the objects of files: all of them are read
MeshConfig | enableClientSidePolicyCheck | | has no effect, as on Istio
MeshConfig | enableEnvoyAccessLogService | |
MeshConfig | extensionProviders[].lightstep | | Envoy has no such tracer any more
MeshConfig | extensionProviders[].opencensus | | Envoy has no such tracer any more
MeshConfig | extensionProviders[].sds | |
MeshConfig | extensionProviders[].stackdriver | | Envoy has no such tracer any more
MeshConfig | hboneIdleTimeout | | there is no ambient mode
MeshConfig | ingressClass | |
MeshConfig | ingressControllerMode | DEFAULT and STRICT | Ingress objects are not read
MeshConfig | ingressSelector | |
MeshConfig | ingressService | |
MeshConfig | meshMTLS.ecdhCurves | | has no effect, as on Istio
MeshConfig | mixerCheckServer | | has no effect, as on Istio
MeshConfig | mixerReportServer | | has no effect, as on Istio
MeshConfig | outboundTrafficPolicy.egressProxy | |
MeshConfig | proxyStatNameLength | | has no effect, as on Istio
MeshConfig | sdsUdsPath | | has no effect, as on Istio
MeshConfig | serviceEntryVisibility | |
MeshConfig | serviceScopeConfigs | | there is one cluster, and no ambient mode
MeshConfig | serviceSettings | | there is one cluster: every service is local to it
MeshConfig | thriftConfig | | has no effect, as on Istio
ProxyConfig | availabilityZone | |
ProxyConfig | caCertificatesPem | |
ProxyConfig | connectionSettings | in an annotation, but globalDownstreamConnectionLimit | is the mesh's to say
ProxyConfig | controlPlaneAuthPolicy | other than MUTUAL_TLS | the control plane always asks for TLS
ProxyConfig | customConfigFile | |
ProxyConfig | discoveryRefreshDelay | |
ProxyConfig | envoyAccessLogService | |
ProxyConfig | envoyMetricsServiceAddress | |
ProxyConfig | fileFlushMinSizeKb | |
ProxyConfig | meshId | |
ProxyConfig | parentShutdownDuration | |
ProxyConfig | privateKeyProvider | |
ProxyConfig | proxyBootstrapTemplatePath | |
ProxyConfig | proxyHeaders.attemptCount | in an annotation | is the mesh's to say
ProxyConfig | proxyHeaders.metadataExchangeHeaders | |
ProxyConfig | proxyHeaders.preserveHttp1HeaderCase | in an annotation | is the mesh's to say
ProxyConfig | proxyHeaders.xForwardedHost | in an annotation | is the mesh's to say
ProxyConfig | proxyMetadata | variables that limits.md names under Proxies | is read and has no effect yet
ProxyConfig | readinessProbe | |
ProxyConfig | sds | |
ProxyConfig | statNameLength | |
ProxyConfig | statsEvictionInterval | |
ProxyConfig | tracing.lightstep | | Envoy has no such tracer any more
ProxyConfig | tracing.openCensusAgent | | Envoy has no such tracer any more
ProxyConfig | tracing.stackdriver | | Envoy has no such tracer any more
ProxyConfig | zipkinAddress | | has no effect, as on Istio: tracing.zipkin.address has
Service | metadata.annotations | Istio's but exportTo; traffic-distribution of other values | are not read
Service | spec.sessionAffinity | ClientIP | consistentHash in a DestinationRule keeps an endpoint
ServiceEntry | spec.endpoints[].network | with DNS | as on Istio the endpoint is called at its own address
ServiceEntry | spec.ports[].targetPort | HTTP with DYNAMIC_DNS | requests go to the port that they name
Sidecar | spec..connectionPool.http.h2UpgradePolicy | | the app is sent what its port declares
Sidecar | spec..connectionPool.tcp.idleTimeout | | has no effect on connections from clients
Sidecar | spec..tls.caCertCredentialName | | Sidecar ingress takes certificates of files only
Sidecar | spec.egress[].port.targetPort | | has no effect, as on Istio
Sidecar | spec.inboundConnectionPool.http.h2UpgradePolicy | | the app is sent what its port declares
Sidecar | spec.inboundConnectionPool.tcp.idleTimeout | | has no effect on connections from clients
Sidecar | spec.ingress[].port.targetPort | | has no effect, as on Istio
Telemetry | spec.metrics[].overrides[].match.customMetric | names that no metric has | there is no such metric here
Telemetry | spec.metrics[].overrides[].match.metric | GRPC_..._MESSAGES | messages are counted by cluster, always
Telemetry | spec.metrics[].reportingInterval | | TCP is reported when connections begin and end
VirtualService | spec.http[].appendHeaders | | has no effect, as on Istio: headers has
VirtualService | spec.http[].fault.abort.http2Error | | has no effect, as on Istio
VirtualService | spec.http[].fault.delay.exponentialDelay | | has no effect, as on Istio
VirtualService | spec.http[].mirror | beside redirect and directResponse | nothing goes to an upstream
VirtualService | spec.http[].mirrors | beside redirect and directResponse | nothing goes to an upstream
VirtualService | spec.http[].removeResponseHeaders | | has no effect, as on Istio: headers has
VirtualService | spec.http[].retries | beside redirect and directResponse | nothing goes to an upstream
VirtualService | spec.http[].timeout | beside redirect and directResponse | nothing goes to an upstream
VirtualService | spec.http[].websocketUpgrade | | has no effect, as on Istio: every route upgrades WebSockets
VirtualService | spec.tcp[].match[].sourceSubnet | | has no effect, as on Istio: the rule is for every address
VirtualService | spec.tls[].match[].sourceSubnet | | has no effect, as on Istio: the rule is for every address
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A field of a kind; ``when`` "" is always."""

    kind: str
    field: str
    when: str
    why: str

    def is_of(self, path: str) -> bool:
        """Whether a finding's path, or a path of ``fields``, is that of the row."""
        return re.fullmatch(_pattern(self.field), path) is not None

    def covers(self, path: str) -> bool:
        """Whether a path is that of the row or lies below it."""
        return re.fullmatch(f"{_pattern(self.field)}(?:[.\\[].*)?", path) is not None


def _rows() -> Iterator[Row]:
    for line in TABLE.strip().splitlines():
        kinds, field, when, why = (cell.strip() for cell in line.split("|"))
        yield from (Row(kind=kind, field=field, when=when, why=why or _YET) for kind in kinds.split(", "))


def _pattern(field: str) -> str:
    escaped = re.escape(field).replace(r"\[\]", r"\[[^]]*\]")
    return escaped.replace(r"\.\.", r"\.(?:.+\.)?")


ROWS: Final = tuple(sorted(_rows(), key=lambda row: (row.kind, row.field)))
"""The whole table, by kind and field."""


def findings(item: Object) -> Iterator[Diagnostic]:
    """A warning for each field that an object says and nothing looks at."""
    for path, why in said(item.kind, item):
        yield warning(Code.NOT_SUPPORTED, item.key, path, why)


def said(kind: str, part: Model, place: str = "") -> Iterator[tuple[str, str]]:
    """Paths and reasons of the fields that ``part`` says and nothing looks at, below ``place``.

    ``part`` is an object of a kind, a MeshConfig or a ProxyConfig. A field that says its default says nothing.
    """
    return _said(_tree(kind, type(part)), part, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A field on the way to another: of which model, its names in Python and outside (the latter with ``[]``)."""

    model: type[Model]
    name: str
    alias: str


def fields(model: type[Model]) -> Iterator[tuple[Step, ...]]:
    """The ways to every field of a model; ``[]`` is for items of lists and of mappings."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        yield (Step(model=model, name=name, alias=alias),)
        inner, several = _inner(field.annotation)
        own = Step(model=model, name=name, alias=f"{alias}[]" if several else alias)
        yield from ((own, *rest) for rest in fields(inner)) if inner else ()


def _inner(annotation: object) -> tuple[type[Model] | None, bool]:
    """The model inside of an annotation, and whether there may be several."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation, False
    several = get_origin(annotation) in (tuple, Mapping)
    inside = (_inner(argument) for argument in get_args(annotation))
    return next(((model, several or deep) for model, deep in inside if model), (None, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """Where to look: fields that are told by name, with their defaults and reasons, and fields to look into."""

    told: Mapping[str, tuple[str, object, str]]
    below: Mapping[str, tuple[str, _Node]]


@cache
def _tree(kind: str, model: type[Model]) -> _Node:
    rows = [row for row in ROWS if row.kind == kind and not row.when]
    found = {
        steps: row.why for steps in fields(model) for row in rows if row.is_of(".".join(step.alias for step in steps))
    }
    return _node(found)


def _node(found: Mapping[tuple[Step, ...], str]) -> _Node:
    told: dict[str, tuple[str, object, str]] = {}
    inside: dict[str, tuple[str, dict[tuple[Step, ...], str]]] = {}
    for (step, *rest), why in found.items():
        if rest:
            inside.setdefault(step.name, (step.alias.removesuffix("[]"), {}))[1][tuple(rest)] = why
        else:
            default = step.model.model_fields[step.name].get_default(call_default_factory=True)
            told[step.name] = (step.alias, default, why)
    below = {name: (alias, _node(deeper)) for name, (alias, deeper) in inside.items()}
    return _Node(told=MappingProxyType(told), below=MappingProxyType(below))


def _said(node: _Node, part: Any, place: str) -> Iterator[tuple[str, str]]:
    start = f"{place}." if place else ""
    for name, (alias, default, why) in node.told.items():
        if getattr(part, name) not in (None, default):
            yield f"{start}{alias}", why
    for name, (alias, deeper) in node.below.items():
        value = getattr(part, name)
        if isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from _said(deeper, item, f"{start}{alias}[{index}]")
        elif value is not None:
            yield from _said(deeper, value, f"{start}{alias}")

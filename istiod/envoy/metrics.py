"""Istio's metrics from Envoy's stats access logger (features rows Q1, Q2; decision 22).

Envoy counts by a few labels, of which the proxy's agent makes Istio's 25 (``wire.labels``, decision 43): those of its
own side it knows itself, a server stands in the metadata of its endpoint and cluster, a client in a header that
``filters/peer.py`` looks at. So there are three sets of loggers for HTTP and three for TCP, the same ones for all
proxies. Nothing that a caller chooses (host, path) is a label (SEC78).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as entries
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from google.protobuf import wrappers_pb2

from crds.checks import cel
from istiod.envoy import wellknown
from istiod.envoy.filters import peer
from istiod.mesh.endpoint import Workload
from istiod.mesh.metrics import NOTHING, Metrics, Override
from istiod.mesh.scope import Cluster
from wire import labels, telemetry
from wire.labels import Reporter

NAME: Final = "envoy.access_loggers.stats"
PREFIX: Final = "istio"
"""Envoy writes ``envoy_istio_...``, which the agent gives as ``istio_...``."""
WORKLOAD: Final = "workload"
"""Key in Istio's namespace of an endpoint's metadata: see ``of_workload``."""
SERVICE: Final = "service"
"""Key in Istio's namespace of a cluster's metadata: see ``of_cluster``."""
_CLIENT, _SERVER = labels.PRINCIPALS

_FAILED: Final = ("UF", "UH", "NR", "NC", "UO", "URX")
"""Flags of connections that never reached a server."""
_CLIENT_NAMESPACE: Final = r"%CEL(re.extract(connection.uri_san_peer_certificate, '/ns/([^/]+)/', '\\1'))%"


def of_workload(workload: Workload) -> str:
    """What an endpoint's metadata says of it, as Istio's does (``WORKLOAD``); "" where it is not known."""
    parts = {
        "workload": workload.name,
        "namespace": workload.namespace,
        "app": workload.app,
        "version": workload.version,
        "service": workload.canonical_name,
        "revision": workload.canonical_revision,
        "cluster": workload.cluster_id,
    }
    return labels.workload(parts) if workload.name else ""


def of_cluster(cluster: Cluster) -> str:
    """What a cluster's metadata says of its service in one word: operators cannot look into Istio's list."""
    if cluster.services:
        service = cluster.services[0]
        return labels.service(service.host, service.name, service.namespace)
    return labels.service("", cluster.name, "")


Overrides = tuple[Override, ...]


def http(reporter: Reporter, said: Metrics = NOTHING) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of an HTTP connection manager; read them only."""
    return _http(reporter, _of_side(reporter, said))


def tcp(reporter: Reporter, said: Metrics = NOTHING) -> tuple[accesslog_pb2.AccessLog, ...]:
    """Loggers of a TCP proxy, which has to flush its logs when it has connected; read them only."""
    return _tcp(reporter, _of_side(reporter, said))


def _of_side(reporter: Reporter, said: Metrics) -> Overrides:
    return said.client if reporter is Reporter.SOURCE else said.server


@lru_cache(maxsize=256)
def _http(reporter: Reporter, said: Overrides) -> tuple[accesslog_pb2.AccessLog, ...]:
    changed = _Changed(reporter, _labels(reporter) | _REQUEST, said)
    every = stats_pb2.Config(
        stat_prefix=PREFIX,
        counters=changed.counters(("requests_total", "")),
        histograms=changed.histograms(
            ("request_duration_milliseconds", "%DURATION%", "Milliseconds"),
            ("request_bytes", "%DOWNSTREAM_WIRE_BYTES_RECEIVED%", "Bytes"),
            ("response_bytes", "%DOWNSTREAM_WIRE_BYTES_SENT%", "Bytes"),
        ),
    )
    return tuple(_loggers((every, None)))


@lru_cache(maxsize=256)
def _tcp(reporter: Reporter, said: Overrides) -> tuple[accesslog_pb2.AccessLog, ...]:
    changed = _Changed(reporter, _labels(reporter, tcp=True) | _CONNECTION, said)
    opened = stats_pb2.Config(stat_prefix=PREFIX, counters=changed.counters(("tcp_connections_opened_total", "")))
    closed = stats_pb2.Config(
        stat_prefix=PREFIX,
        counters=changed.counters(
            ("tcp_connections_closed_total", ""),
            ("tcp_sent_bytes_total", "%BYTES_SENT%"),
            ("tcp_received_bytes_total", "%BYTES_RECEIVED%"),
        ),
    )
    return tuple(_loggers((opened, _OPENED), (closed, _CLOSED)))


class _Changed:
    """The metrics that are left, with their labels as users want them."""

    def __init__(self, reporter: Reporter, counted: Mapping[str, str], said: Overrides) -> None:
        self._reporter = reporter
        self._counted = counted
        self._said = {one.metric: one for one in said}
        self._all = _tags({labels.REPORTER: labels.reporter(reporter, ()), **counted})

    def counters(self, *wanted: tuple[str, str]) -> list[stats_pb2.Config.Counter]:
        return [_counter(name, self._tags(name), value) for name, value in wanted if self._is_on(name)]

    def histograms(self, *wanted: tuple[str, str, str]) -> list[stats_pb2.Config.Histogram]:
        return [_histogram(name, self._tags(name), value, unit) for name, value, unit in wanted if self._is_on(name)]

    def _is_on(self, name: str) -> bool:
        return name not in self._said or not self._said[name].disabled

    def _tags(self, name: str) -> list[stats_pb2.Config.Tag]:
        if name not in self._said:
            return self._all
        said = ((tag, value) for tag, value in self._said[name].tags if not labels.is_short(tag))
        changes = {tag: value if value is None else _of_cel(value) for tag, value in said}
        made = {labels.REPORTER: labels.reporter(self._reporter, changes)}
        if self._reporter is Reporter.DESTINATION and _CLIENT in changes:
            made[labels.NAMESPACE] = _CLIENT_NAMESPACE
        merged = {**self._counted, **changes, **made}
        return _tags({tag: value for tag, value in merged.items() if value is not None})


def _of_cel(expression: str) -> str:
    """What an expression gives; ``unknown`` where it fails."""
    return _known(("CEL", cel.parse_label(expression).text))


def _loggers(
    *made: tuple[stats_pb2.Config, accesslog_pb2.AccessLogFilter | None],
) -> Iterator[accesslog_pb2.AccessLog]:
    yield from (_logger(config, wanted) for config, wanted in made if config.counters or config.histograms)


def _logger(config: stats_pb2.Config, wanted: accesslog_pb2.AccessLogFilter | None = None) -> accesslog_pb2.AccessLog:
    return accesslog_pb2.AccessLog(name=NAME, filter=wanted, typed_config=wellknown.packed(config))


def _counter(name: str, tags: list[stats_pb2.Config.Tag], value: str = "") -> stats_pb2.Config.Counter:
    fixed = None if value else wrappers_pb2.UInt64Value(value=1)
    return stats_pb2.Config.Counter(
        stat=stats_pb2.Config.Stat(name=name, tags=tags), value_format=value, value_fixed=fixed
    )


def _histogram(name: str, tags: list[stats_pb2.Config.Tag], value: str, unit: str) -> stats_pb2.Config.Histogram:
    return stats_pb2.Config.Histogram(
        stat=stats_pb2.Config.Stat(name=name, tags=tags),
        unit=unit,
        value_format=value,
    )


def _tags(labels: Mapping[str, str]) -> list[stats_pb2.Config.Tag]:
    return [stats_pb2.Config.Tag(name=name, value_format=value) for name, value in labels.items()]


def _known(*operators: tuple[str, str]) -> str:
    """The first of these operators that has a value, else ``unknown``."""
    choices = [{"command": name, "param": param} if param else name for name, param in operators]
    choices.append({"command": "ENVIRONMENT", "param": telemetry.NOBODY})
    return f"%COALESCE({json.dumps({'operators': choices}, separators=(',', ':'))})%"


_REQUEST: Final = {
    "request_protocol": f"%DYNAMIC_METADATA({peer.NAMESPACE}:protocol)%",
    "response_code": "%RESPONSE_CODE%",
    "grpc_response_status": "%GRPC_STATUS_NUMBER%",
    "response_flags": "%RESPONSE_FLAGS%",
}
_CONNECTION: Final = {"request_protocol": "tcp", "response_flags": "%RESPONSE_FLAGS%"}


def _labels(reporter: Reporter, *, tcp: bool = False) -> dict[str, str]:
    service = {labels.SERVICE: f"%CLUSTER_METADATA({wellknown.ISTIO}:{SERVICE})%"}
    if reporter is Reporter.STRANGERS:
        return service
    if reporter is Reporter.DESTINATION:
        peers = {} if tcp else {labels.PEER: f"%DYNAMIC_METADATA({peer.NAMESPACE}:{peer.CLIENT})%"}
        return service | peers | {_CLIENT: "%DOWNSTREAM_PEER_URI_SAN%", _SERVER: "%DOWNSTREAM_LOCAL_URI_SAN%"}
    peers = {labels.PEER: f"%UPSTREAM_METADATA({wellknown.ISTIO}:{WORKLOAD})%"}
    return service | peers | {_CLIENT: "%UPSTREAM_LOCAL_URI_SAN%", _SERVER: "%UPSTREAM_PEER_URI_SAN%"}


def _of_type(*types: entries.AccessLogType) -> accesslog_pb2.AccessLogFilter:
    return accesslog_pb2.AccessLogFilter(log_type_filter=accesslog_pb2.LogTypeFilter(types=types))


_CLOSED: Final = _of_type(entries.TcpConnectionEnd)
_OPENED: Final = accesslog_pb2.AccessLogFilter(
    or_filter=accesslog_pb2.OrFilter(
        filters=[
            _of_type(entries.TcpUpstreamConnected),
            accesslog_pb2.AccessLogFilter(
                and_filter=accesslog_pb2.AndFilter(
                    filters=[
                        _CLOSED,
                        accesslog_pb2.AccessLogFilter(
                            response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=_FAILED)
                        ),
                    ]
                )
            ),
        ]
    )
)
"""Connected, or ended without that."""

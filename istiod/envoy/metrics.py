"""Istio's metrics from Envoy's stats access logger (features rows Q1, Q2; decision 22).

The labels of a proxy's own side are variables that its agent sets (``wire.telemetry``), those of a server are in the
metadata of its endpoint and cluster, those of a client in a header that ``filters/peer.py`` takes apart. So there are
three sets of loggers for HTTP and three for TCP, the same ones for all proxies. Nothing that a caller chooses (host,
path) is a label (SEC78).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
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
from wire import telemetry

NAME: Final = "envoy.access_loggers.stats"
PREFIX: Final = "istio"
"""Envoy writes ``envoy_istio_...``, which the agent gives as ``istio_...``."""
SERVER: Final = "peer"
"""Namespace of an endpoint's metadata that says whose it is, by ``_KEYS``; short, as there are many endpoints."""

_KEYS: Final = {
    "workload": "w",
    "namespace": "n",
    "app": "a",
    "version": "v",
    "service": "s",
    "revision": "r",
    "cluster": "c",
}
_SERVICE: Final = {"service": "host", "service_name": "name", "service_namespace": "namespace"}
"""The rest of a label's name -> key of a cluster's metadata."""

_FAILED: Final = ("UF", "UH", "NR", "NC", "UO", "URX")
"""Flags of connections that never reached a server."""
_CLIENT_NAMESPACE: Final = r"%CEL(re.extract(connection.uri_san_peer_certificate, '/ns/([^/]+)/', '\\1'))%"


class Reporter(Enum):
    """Who counts: the client's proxy, or the server's, which believes what mesh mTLS proved and nothing else."""

    SOURCE = "source"
    DESTINATION = "destination"
    STRANGERS = "destination of plaintext"


def of_workload(workload: Workload) -> dict[str, str]:
    """What an endpoint's metadata says of it under ``SERVER``; app and version only where not the canonical ones."""
    if not workload.name:
        return {}
    found = {
        "workload": workload.name,
        "namespace": workload.namespace,
        "service": workload.canonical_name,
        "revision": workload.canonical_revision,
        "cluster": workload.cluster_id,
    }
    if workload.app != workload.canonical_name:
        found["app"] = workload.app
    if workload.version != workload.canonical_revision:
        found["version"] = workload.version
    return {_KEYS[part]: value or telemetry.UNKNOWN for part, value in found.items()}


def of_cluster(cluster: Cluster) -> dict[str, str]:
    """What a cluster's metadata says of its service, one value a key: operators cannot look into Istio's list."""
    if cluster.services:
        service = cluster.services[0]
        return {"host": service.host, "name": service.name, "namespace": service.namespace}
    return {"host": telemetry.UNKNOWN, "name": cluster.name, "namespace": telemetry.UNKNOWN}


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
    changed = _Changed(_labels(reporter) | _REQUEST, said)
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
    changed = _Changed(_labels(reporter, tcp=True) | _CONNECTION, said)
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

    def __init__(self, labels: Mapping[str, str], said: Overrides) -> None:
        self._labels = labels
        self._said = {one.metric: one for one in said}
        self._all = _tags(labels)

    def counters(self, *wanted: tuple[str, str]) -> list[stats_pb2.Config.Counter]:
        return [_counter(name, self._tags(name), value) for name, value in wanted if self._is_on(name)]

    def histograms(self, *wanted: tuple[str, str, str]) -> list[stats_pb2.Config.Histogram]:
        return [_histogram(name, self._tags(name), value, unit) for name, value, unit in wanted if self._is_on(name)]

    def _is_on(self, name: str) -> bool:
        return name not in self._said or not self._said[name].disabled

    def _tags(self, name: str) -> list[stats_pb2.Config.Tag]:
        if name not in self._said:
            return self._all
        changes = {tag: value if value is None else _of_cel(value) for tag, value in self._said[name].tags}
        merged = {**self._labels, **changes}
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


_LABEL_PARTS: Final = {
    "workload": "workload",
    "workload_namespace": "namespace",
    "app": "app",
    "version": "version",
    "canonical_service": "service",
    "canonical_revision": "revision",
    "cluster": "cluster",
}
"""The rest of a label's name -> what it says of a workload."""
_REQUEST: Final = {
    "request_protocol": f"%DYNAMIC_METADATA({peer.NAMESPACE}:protocol)%",
    "response_code": "%RESPONSE_CODE%",
    "grpc_response_status": "%GRPC_STATUS_NUMBER%",
    "response_flags": "%RESPONSE_FLAGS%",
}
_CONNECTION: Final = {"request_protocol": "tcp", "response_flags": "%RESPONSE_FLAGS%"}
_OWN: Final = {part: f"%ENVIRONMENT({telemetry.variable(part)})%" for part in telemetry.PARTS}
_NOBODY: Final = dict.fromkeys(telemetry.PARTS, telemetry.UNKNOWN)


def _labels(reporter: Reporter, *, tcp: bool = False) -> dict[str, str]:
    if reporter is Reporter.SOURCE:
        return _at_source()
    return _at_destination(proven=reporter is Reporter.DESTINATION, tcp=tcp)


def _at_source() -> dict[str, str]:
    server = {part: _known(*_of_endpoint(part)) for part in telemetry.PARTS}
    service = {
        f"destination_{label}": _known(("CLUSTER_METADATA", f"{wellknown.ISTIO}:{key}"))
        for label, key in _SERVICE.items()
    }
    return {
        "reporter": "source",
        **_side("source", _OWN),
        "source_principal": _known(("UPSTREAM_LOCAL_URI_SAN", "")),
        **_side("destination", server),
        "destination_principal": _known(("UPSTREAM_PEER_URI_SAN", "")),
        **service,
        "connection_security_policy": telemetry.UNKNOWN,
    }


def _of_endpoint(part: str) -> Iterable[tuple[str, str]]:
    """Where a part stands: what is the same as the canonical name or revision is not said twice."""
    same = {"app": "service", "version": "revision"}.get(part)
    for key in (part, same):
        if key:
            yield "UPSTREAM_METADATA", f"{SERVER}:{_KEYS[key]}"


def _at_destination(*, proven: bool, tcp: bool) -> dict[str, str]:
    client = _NOBODY
    if proven and tcp:
        client = _NOBODY | {"namespace": _CLIENT_NAMESPACE}
    elif proven:
        client = {part: f"%DYNAMIC_METADATA({peer.NAMESPACE}:{part})%" for part in telemetry.PARTS}
    service = {
        f"destination_{label}": f"%CLUSTER_METADATA({wellknown.ISTIO}:{key})%" for label, key in _SERVICE.items()
    }
    return {
        "reporter": "destination",
        **_side("source", client),
        "source_principal": "%DOWNSTREAM_PEER_URI_SAN%" if proven else telemetry.UNKNOWN,
        **_side("destination", _OWN),
        "destination_principal": "%DOWNSTREAM_LOCAL_URI_SAN%" if proven else telemetry.UNKNOWN,
        **service,
        "connection_security_policy": "mutual_tls" if proven else "none",
    }


def _side(name: str, values: Mapping[str, str]) -> dict[str, str]:
    return {f"{name}_{label}": values[part] for label, part in _LABEL_PARTS.items()}


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

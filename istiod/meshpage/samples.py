"""What a proxy counted, out of its metrics in Prometheus' text format: istio_* by who called whom. Pure.

A proxy is believed about itself only: a source speaks for workloads of its own namespace, and so does a destination.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

MOST: Final = 20_000
"""Series of one proxy that are kept."""
MOST_NAME: Final = 253
UNKNOWN: Final = "unknown"
REQUESTS, ERRORS, BYTES, WITHIN = "requests", "errors", "bytes", "within"
"""What is counted: requests, those that failed, TCP bytes both ways, and requests that took at most so long."""
_COUNTED: Final = {
    b"istio_requests_total": REQUESTS,
    b"istio_request_duration_milliseconds_bucket": WITHIN,
    b"istio_tcp_sent_bytes_total": BYTES,
    b"istio_tcp_received_bytes_total": BYTES,
}
_SAMPLE: Final = re.compile(rb"(istio_(?:request|tcp_(?:sent|received))\w+)\{(.*)\} (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r"\\(.)")


class Node(NamedTuple):
    """One side of a call: a workload, and the service that it is or is called by."""

    namespace: str
    workload: str
    service: str


class Edge(NamedTuple):
    """Who calls whom, and which of the two says so (``source`` or ``destination``)."""

    source: Node
    destination: Node
    reporter: str


class Series(NamedTuple):
    """One number: of an edge, and what of it; ``bound`` is in milliseconds, only for ``WITHIN``."""

    edge: Edge
    what: str
    bound: float = 0.0


Counted = dict[Series, float]


def add(found: Counted, lines: Iterable[bytes], namespace: str) -> None:
    """Add the counts in some lines of a proxy of this namespace; what is no sample of ours is passed over."""
    for line in lines:
        match = _SAMPLE.match(line)
        what = _COUNTED.get(match[1]) if match else None
        if match is None or what is None:
            continue
        labels = dict(_LABEL.findall(match[2].decode(errors="replace")))
        value = _number(match[3].decode(errors="replace"))
        edge = _edge(labels, namespace)
        bound = _number(labels.get("le", "")) if what == WITHIN else 0.0
        if edge is None or value is None or bound is None:
            continue
        _add(found, Series(edge, what, bound), value)
        if what == REQUESTS and failed(labels):
            _add(found, Series(edge, ERRORS), value)


def failed(labels: dict[str, str]) -> bool:
    """Whether a request failed by the server's side: a 5xx, no answer at all, or a status of gRPC that is not OK."""
    code, status = labels.get("response_code", ""), labels.get("grpc_response_status", "")
    return code.startswith("5") or code == "0" or status not in ("", "0", UNKNOWN)


def _add(found: Counted, series: Series, value: float) -> None:
    if series in found or len(found) < MOST:
        found[series] = found.get(series, 0.0) + value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value >= 0 else None  # not-a-number is not, either


def _edge(labels: dict[str, str], namespace: str) -> Edge | None:
    source = _node(labels, "source", "source_canonical_service", "source_workload_namespace")
    called = _text(labels, "destination_service_name")
    destination = _node(labels, "destination", "destination_canonical_service", "destination_workload_namespace")
    if called != UNKNOWN:
        destination = destination._replace(service=called)
    if destination.namespace == UNKNOWN:
        destination = destination._replace(namespace=_text(labels, "destination_service_namespace"))
    reporter = labels.get("reporter", "")
    own = {"source": source.namespace, "destination": destination.namespace}.get(reporter)
    return Edge(source, destination, reporter) if own == namespace else None


def _node(labels: dict[str, str], side: str, service: str, namespace: str) -> Node:
    return Node(_text(labels, namespace), _text(labels, f"{side}_workload"), _text(labels, service))


def _text(labels: dict[str, str], name: str) -> str:
    said = _ESCAPE.sub(r"\1", labels.get(name, ""))[:MOST_NAME]
    return "".join(filter(str.isprintable, said)) or UNKNOWN

"""Istio's counts of gRPC messages from what Envoy counts for each cluster (decision 22).

Envoy's filter counts messages by cluster and while a stream lasts, so the totals are Istio's and as fresh. What the
name of a cluster says is all that is known of the other side: the service, and neither workload nor principal.
Labels are those that Istio gives these two metrics: none of a single request's (protocol, code, flags, policy).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from wire import exposition, labels, telemetry
from wire.exposition import Family, Sample

SUFFIXES: Final = ("grpc.request_message_count", "grpc.response_message_count")
"""How Envoy's statistics end that have to be kept for this."""
_LINE: Final = re.compile(
    rb'^envoy_cluster_grpc_(request|response)_message_count\{cluster_name="([^"\\]*)"\} (\d+)', re.MULTILINE
)
_SIGN: Final = b"envoy_cluster_grpc_re"
_HELP: Final = "gRPC messages that {} sent."
_SIDES: Final = (("request", "clients"), ("response", "servers"))
_PARTS: Final = 4
"""Of a cluster's name: direction, port, subset, host."""
_SERVICE: Final = re.compile(r"([^.]+)\.([^.]+)\.svc\..+")

Labels = tuple[tuple[str, str], ...]


class Messages:
    """Sums up one scrape."""

    def __init__(self, own: Mapping[str, str]) -> None:
        """``own``: what is known of this workload, by ``wire.telemetry.PARTS``."""
        self._own = own
        self._counts: dict[bytes, Counter[Labels]] = {b"request": Counter(), b"response": Counter()}

    def read(self, lines: bytes) -> None:
        """Take what whole lines of Envoy's say of messages."""
        if _SIGN not in lines:
            return
        for kind, cluster, count in _LINE.findall(lines):
            self._counts[kind][tuple(self._labels(cluster.decode(errors="replace")).items())] += int(count)

    def families(self) -> Iterator[Family]:
        """Istio's metrics; one of which nothing was counted is left out."""
        for kind, whose in _SIDES:
            samples = [Sample(value=count, labels=dict(one)) for one, count in self._counts[kind.encode()].items()]
            if samples:
                name = f"istio_{kind}_messages_total"
                yield exposition.family(name, "counter", _HELP.format(whose), *samples)

    def _labels(self, cluster: str) -> dict[str, str]:
        inbound = cluster.startswith(("inbound|", "InboundPassthroughCluster"))
        nobody: Mapping[str, str] = {}
        client, server = (nobody, self._own) if inbound else (self._own, nobody)
        return {
            "reporter": "destination" if inbound else "source",
            **labels.side("source", client),
            **labels.side("destination", server),
            **dict.fromkeys(labels.PRINCIPALS, telemetry.UNKNOWN),
            **_service(cluster),
        }


def _service(cluster: str) -> dict[str, str]:
    parts = cluster.split("|")
    host = parts[-1] if len(parts) == _PARTS and parts[-1] else telemetry.UNKNOWN
    name, namespace = (host, telemetry.UNKNOWN) if len(parts) == _PARTS else (cluster, telemetry.UNKNOWN)
    if of_cluster := _SERVICE.fullmatch(host):
        name, namespace = of_cluster.groups()
    return {
        "destination_service": host,
        "destination_service_name": name,
        "destination_service_namespace": namespace,
    }

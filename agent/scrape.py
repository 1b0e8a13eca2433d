"""``/stats/prometheus`` on 15020: Envoy's metrics, the agent's and the app's in one answer (features rows C8, A11).

Envoy's are passed on as they come; Istio's get the names and labels that dashboards know (agent.series, fact P3), and
counts of gRPC messages are made of what Envoy counts for clusters.
The app's are asked for in Prometheus' text format, since Envoy's come in no other. Whoever does not answer is counted
and left out; the others' metrics must not vanish with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent import grpc_messages, httpwire, metrics, series
from wire import exposition

VARIABLE: Final = "ISTIO_PROMETHEUS_ANNOTATIONS"
MAX_APP_BYTES: Final = 10 * 1024 * 1024
"""More of an app's metrics is left out (SEC30)."""
_LOG: Final = logging.getLogger("scrape")
_PATH: Final = "/stats/prometheus"
_TIMEOUT_HEADER: Final = "x-prometheus-scrape-timeout-seconds"
_SECONDS: Final = (10.0, 60.0)
_LAST_PORT: Final = 65_535
_TEXT_TYPES: Final = ("text/plain", "application/openmetrics-text", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the app gives its metrics."""

    port: int
    path: str


def endpoints(declared: str, status_port: int) -> tuple[Endpoint, ...]:
    """What ISTIO_PROMETHEUS_ANNOTATIONS names; Istio's defaults are port 80 and /metrics.

    What cannot be meant is warned of and left out: a pod must not stay down because of an annotation for Prometheus.
    """
    try:
        given = json.loads(declared or "{}")
    except (ValueError, RecursionError) as error:
        _LOG.warning("%s is no JSON, the app's metrics are left out: %s", VARIABLE, error)
        return ()
    if not isinstance(given, dict) or str(given.get("scrape", "false")).lower() != "true":
        return ()
    targets = given.get("targets") or [given]
    found = [_endpoint(target, status_port) for target in targets if isinstance(target, dict)]
    return tuple(dict.fromkeys(each for each in found if each))


def _endpoint(target: Mapping[str, Any], status_port: int) -> Endpoint | None:
    port, path = str(target.get("port") or "80"), str(target.get("path") or "/metrics")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= _LAST_PORT):
        _LOG.warning("prometheus.io/port %r is no port, the app's metrics are left out", port)
        return None
    if int(port) == status_port:
        _LOG.warning("prometheus.io/port %s is the agent's own, the app's metrics are left out", port)
        return None
    return Endpoint(port=int(port), path=httpwire.absolute(path))


class Scrape:
    """Makes the answers."""

    def __init__(
        self,
        envoy: httpwire.Target,
        apps: tuple[Endpoint, ...],
        counted: metrics.Metrics,
        own: Mapping[str, str],
    ) -> None:
        """Ask this Envoy and these endpoints of the app; tell ``counted`` of it, and its numbers.

        ``own`` is what is known of this workload, by ``wire.telemetry.PARTS``.
        """
        self._envoy = envoy
        self._apps = apps
        self._counted = counted
        self._own = own

    async def answer(self, fields: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Head and body; ``fields`` are the request's, for Prometheus' own time limit."""
        self._counted.scrapes += 1
        end = asyncio.get_running_loop().time() + _limit(fields)
        yield httpwire.response_head(200, exposition.CONTENT_TYPE)
        asked = _asked_for(fields)
        async for lines in self._of_envoy(asked, end):
            yield lines
        yield self._counted.text().encode()
        for app in self._apps:
            target = httpwire.Target("localhost", app.port)
            async for lines in self._part(metrics.APPLICATION, target, app.path, asked, end):
                yield lines

    async def envoy_alone(self, fields: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Head and body of what port 15090 gives: Envoy's metrics and no others."""
        end = asyncio.get_running_loop().time() + _limit(fields)
        yield httpwire.response_head(200, exposition.CONTENT_TYPE)
        async for lines in self._of_envoy(_asked_for(fields), end):
            yield lines

    async def _of_envoy(self, fields: Mapping[str, str], end: float) -> AsyncIterator[bytes]:
        """Envoy's metrics, and what is made of them."""
        messages, failures = grpc_messages.Messages(self._own), self._counted.failures[metrics.ENVOY]
        istios = series.Series(self._own)
        async for lines in self._part(metrics.ENVOY, self._envoy, _PATH, fields, end):
            messages.read(lines)
            if made := istios.lines(lines):
                yield made
        if rest := istios.rest():
            yield rest
        if self._counted.failures[metrics.ENVOY] > failures:
            return  # half a sum would look like a restart
        if counts := exposition.render(messages.families()):
            yield counts.encode()

    async def _part(
        self, whose: str, target: httpwire.Target, path: str, fields: Mapping[str, str], end: float
    ) -> AsyncIterator[bytes]:
        """Whole lines of one source, until it ends, fails, or takes too long."""
        headers = {"Accept": "text/plain;version=0.0.4"} | dict(fields)
        lines = _asked(target, path, headers, MAX_APP_BYTES if whose == metrics.APPLICATION else None)
        try:
            while True:
                async with asyncio.timeout_at(end):
                    block = await anext(lines, b"")
                if not block:
                    return
                if said := block if whose == metrics.ENVOY else plain(block):
                    yield said
        except (httpwire.HttpError, TimeoutError) as error:
            self._counted.failures[whose] += 1
            _LOG.info("metrics of %s at %s%s: %s", whose, target, path, error or "no answer in time")
        finally:
            await lines.aclose()


def _asked_for(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name == _TIMEOUT_HEADER}


async def _asked(
    target: httpwire.Target, path: str, headers: Mapping[str, str], most: int | None
) -> AsyncGenerator[bytes, None]:
    """Whole lines, at most so many bytes."""
    taken = 0
    async with httpwire.exchange(target, "GET", path, headers) as (head, chunks):
        kind = head.fields.get("content-type", "").partition(";")[0].strip().lower()
        if head.status != httpwire.OK or kind not in _TEXT_TYPES:
            raise httpwire.HttpError(f"answered {head.status} {kind}")
        async for block in whole_lines(chunks):
            taken += len(block)
            if most is not None and taken > most:
                raise httpwire.HttpError(f"more than {most} bytes")
            yield block


async def whole_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in blocks that each end with a line feed, one added at the very end where it is missing.

    Raises:
        HttpError: a line is longer than MAX_APP_BYTES.
    """
    kept = bytearray()
    async for chunk in chunks:
        kept += chunk
        whole = kept.rfind(b"\n", len(kept) - len(chunk)) + 1
        if whole:
            yield bytes(kept[:whole])
            del kept[:whole]
        if len(kept) > MAX_APP_BYTES:
            raise httpwire.HttpError("a line without end")
    if kept:
        yield bytes(kept) + b"\n"


def plain(lines: bytes) -> bytes:
    """Whole lines of an app without what OpenMetrics adds, in case it answers so though it was asked otherwise."""
    if b"# " not in lines:
        return lines
    kept = (line for line in lines.splitlines(keepends=True) if line.strip() != b"# EOF")
    return b"".join(line if line.startswith(b"#") else _without_exemplar(line) for line in kept)


def _without_exemplar(line: bytes) -> bytes:
    """What follows the value as `` # {...}``; a label's value may hold the same, so it is looked for after them."""
    start = line.find(b" # {", _labels_end(line))
    return line if start < 0 else line[:start] + b"\n"


def _labels_end(line: bytes) -> int:
    """Where the sample's own labels end; 0 without labels."""
    if b"{" not in line.partition(b" ")[0]:
        return 0
    quoted = escaped = False
    for place, byte in enumerate(line):
        if escaped:
            escaped = False
        elif byte == ord("\\"):
            escaped = True
        elif byte == ord('"'):
            quoted = not quoted
        elif byte == ord("}") and not quoted:
            return place
    return 0


def _limit(fields: Mapping[str, str]) -> float:
    """Prometheus says how long it waits; without that, or beyond a minute, our own limits."""
    default, most = _SECONDS
    try:
        given = float(fields.get(_TIMEOUT_HEADER, default))
    except ValueError:
        return default
    return min(given, most) if given > 0 else default

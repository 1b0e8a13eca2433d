"""The app's own probes and hooks, asked for the kubelet at ``/app-health/...`` and ``/app-lifecycle/...`` (row A10).

Under STRICT mTLS the kubelet cannot speak to the app; injection therefore points its probes here and leaves what they
were in ISTIO_KUBE_APP_PROBERS. Only what is declared there can be asked for, and only of this pod (SEC30).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from agent import httpwire, relay
from agent.bootstrap.inputs import InputError
from wire import names
from wire.varint import varint

VARIABLE: Final = "ISTIO_KUBE_APP_PROBERS"
PREFIXES: Final = ("/app-health/", "/app-lifecycle/")
_LOG: Final = logging.getLogger("probes")
_SERVING: Final = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_DROPPED: Final = (
    *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),  # of one hop
    *("host", "content-length", "expect", "accept-encoding"),
)
"""Headers of the kubelet's request that are not passed on: the request to the app is another, without a body."""
_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = range(300, 400)
_LAST_PORT: Final = 65_535
_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One declared probe, as Kubernetes writes its handler. ``seconds`` is how long the app may take."""

    handler: str
    fields: Mapping[str, Any]
    port: int
    seconds: float


class Probers:
    """The probes that this pod declares; nothing else can be asked for."""

    def __init__(self, declared: str, host: str) -> None:
        """Take ISTIO_KUBE_APP_PROBERS (JSON; empty means none); apps are asked at ``host``, the pod's own address.

        Raises:
            InputError: the text is no JSON object of probes.
        """
        try:
            probes = json.loads(declared or "{}")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{VARIABLE} is no JSON: {error}") from error
        if not isinstance(probes, dict):
            raise InputError(f"{VARIABLE} must be a JSON object")
        self._probes = {path: _probe(path, given) for path, given in probes.items()}
        self._host = host

    async def probe(self, path: str, headers: Mapping[str, str]) -> int:
        """The HTTP status that the kubelet gets: the app's own; 200 or 503 for TCP and gRPC; 404 if not declared."""
        probe = self._probes.get(path)
        if probe is None:
            return 404
        try:
            async with asyncio.timeout(probe.seconds):
                return await self._ask(probe, headers)
        except TimeoutError:
            _LOG.info("%s: no answer from the app within %g s", path, probe.seconds)
        except (OSError, httpwire.HttpError, grpc.aio.AioRpcError) as error:
            _LOG.info("%s: %s", path, error.details() if isinstance(error, grpc.aio.AioRpcError) else error)
        return _UNAVAILABLE

    async def _ask(self, probe: Probe, headers: Mapping[str, str]) -> int:
        if probe.handler == "httpGet":
            return await self._http(probe, headers)
        if probe.handler == "grpc":
            return await self._grpc(probe)
        _, writer = await asyncio.open_connection(self._host, probe.port, local_addr=self._source())
        writer.close()
        return 200

    async def _http(self, probe: Probe, headers: Mapping[str, str]) -> int:
        """As the kubelet does: redirects within the app are followed, one that leads elsewhere is a success.

        The kubelet itself would take a redirect without its Location for a failure, so it never sees one.
        """
        source = self._source()
        tls = str(probe.fields.get("scheme") or "HTTP").upper() == "HTTPS"
        target = httpwire.Target(self._host, probe.port, source[0] if source else "", tls=tls)
        given = dict(_headers(probe.fields.get("httpHeaders")))
        dropped = {*_DROPPED, *(name.lower() for name in given)}
        passed = {name: value for name, value in headers.items() if name not in dropped} | given
        path: str | None = str(probe.fields.get("path") or "/")
        for _ in range(_MAX_REDIRECTS):
            answer = await httpwire.request(target, "GET", httpwire.absolute(path or "/"), passed, probe.seconds)
            if answer.status not in _REDIRECTS:
                return answer.status
            path = _within(answer.location, target)
            if path is None:
                return 200
        return _UNAVAILABLE

    async def _grpc(self, probe: Probe) -> int:
        service = str(probe.fields.get("service") or "").encode()
        authority = str(httpwire.Target(self._host, probe.port))
        options = (("grpc.enable_http_proxy", 0), ("grpc.default_authority", authority))
        reader, writer = await asyncio.open_connection(self._host, probe.port, local_addr=self._source())
        async with (
            relay.named(reader, writer) as name,
            grpc.aio.insecure_channel(f"unix-abstract:{name}", options) as channel,
        ):
            check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
            answer = await check(b"\x0a" + varint(len(service)) + service if service else b"")
        return 200 if answer == _SERVING else _UNAVAILABLE

    def _source(self) -> tuple[str, int] | None:
        """The address that the rules of the pod never redirect (features row S36).

        ::6 is there only where istio-iptables added it; without rules nothing would be redirected anyway.
        """
        if ":" not in self._host:
            return (names.INBOUND_BIND_ADDRESS, 0)
        return (names.INBOUND_BIND_ADDRESS_IPV6, 0) if _ours(names.INBOUND_BIND_ADDRESS_IPV6) else None


def _probe(path: str, given: object) -> Probe:
    handlers = [name for name in ("httpGet", "tcpSocket", "grpc") if isinstance(given, dict) and given.get(name)]
    if not isinstance(given, dict) or not handlers or not isinstance(given[handlers[0]], dict):
        raise InputError(f"{VARIABLE}: {path} is no probe with httpGet, tcpSocket or grpc")
    fields = given[handlers[0]]
    try:
        port, seconds = int(str(fields.get("port"))), float(given.get("timeoutSeconds") or 1)
    except ValueError:  # a name that no container port has: the kubelet would say the same at each probe
        _LOG.warning("%s: port %r is no number; this probe always fails", path, fields.get("port"))
        port, seconds = 0, 1.0
    if not 0 <= port <= _LAST_PORT:
        raise InputError(f"{VARIABLE}: {path}: {port} is no port")
    return Probe(handler=handlers[0], fields=fields, port=port, seconds=seconds)


def _headers(declared: object) -> Iterator[tuple[str, str]]:
    """The headers of a probe; what has no name is none."""
    for each in declared if isinstance(declared, list) else ():
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield each["name"], str(each.get("value", ""))


def _ours(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind((address, 0))
    except OSError:
        return False
    return True


def _within(location: str, target: httpwire.Target) -> str | None:
    """The path and query of a redirect that stays with this app; None if it leads elsewhere."""
    try:
        parts = urllib.parse.urlsplit(location)
        here = not parts.netloc or (parts.hostname == target.host and (parts.port or target.port) == target.port)
    except ValueError:
        return None
    if not here or not location:
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

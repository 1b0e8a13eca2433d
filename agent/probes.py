"""The app's own probes, asked on behalf of the kubelet at ``/app-health/...`` (features row A10).

Under STRICT mTLS the kubelet cannot speak to the app; injection therefore points its probes here and leaves what they
were in ISTIO_KUBE_APP_PROBERS.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import grpc
import grpc.aio

from agent import httpwire
from agent.bootstrap.inputs import InputError
from wire import names

VARIABLE: Final = "ISTIO_KUBE_APP_PROBERS"
_SERVING: Final = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_DROPPED: Final = ("host", "connection", "content-length", "accept-encoding")


class Probers:
    """The probes that this pod declares; nothing else can be asked for."""

    def __init__(self, declared: str, host: str) -> None:
        """Take ISTIO_KUBE_APP_PROBERS (JSON; empty means none); apps are asked at ``host``, the pod's own address.

        Raises:
            InputError: the text is no JSON object.
        """
        try:
            probes = json.loads(declared or "{}")
        except ValueError as error:
            raise InputError(f"{VARIABLE} is no JSON: {error}") from error
        if not isinstance(probes, dict):
            raise InputError(f"{VARIABLE} must be a JSON object")
        self._probes = probes
        self._host = host

    async def probe(self, path: str, headers: Mapping[str, str]) -> int:
        """The HTTP status that the kubelet gets: the app's own; 200 or 503 for TCP and gRPC; 404 if not declared."""
        probe = self._probes.get(path)
        if probe is None:
            return 404
        try:
            async with asyncio.timeout(float(probe.get("timeoutSeconds") or 1)):
                return await self._ask(probe, headers)
        except (TimeoutError, OSError, httpwire.HttpError, grpc.aio.AioRpcError):
            return 503

    async def _ask(self, probe: Mapping[str, Any], headers: Mapping[str, str]) -> int:
        if "httpGet" in probe:
            return await self._http(probe["httpGet"], headers)
        if "grpc" in probe:
            return await self._grpc(probe["grpc"])
        _, writer = await asyncio.open_connection(
            self._host, int(probe["tcpSocket"]["port"]), local_addr=self._source()
        )
        writer.close()
        return 200

    async def _http(self, get: Mapping[str, Any], headers: Mapping[str, str]) -> int:
        source = self._source()
        target = httpwire.Target(
            self._host, int(get["port"]), source[0] if source else "", tls=get.get("scheme") == "HTTPS"
        )
        passed = {name: value for name, value in headers.items() if name not in _DROPPED}
        passed |= {header["name"]: header["value"] for header in get.get("httpHeaders") or ()}
        path = get.get("path") or "/"
        answer = await httpwire.request(target, "GET", path if path.startswith("/") else f"/{path}", passed)
        return answer.status

    async def _grpc(self, probe: Mapping[str, Any]) -> int:
        service = str(probe.get("service") or "").encode()
        async with grpc.aio.insecure_channel(f"{self._host}:{probe['port']}") as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
            answer = await check(b"\x0a" + bytes((len(service),)) + service if service else b"")
        return 200 if answer == _SERVING else 503

    def _source(self) -> tuple[str, int] | None:
        """The address that the rules of the pod never redirect (features row S36), where there is one."""
        return None if ":" in self._host else (names.INBOUND_BIND_ADDRESS, 0)

"""Envoy's SecretDiscoveryService on a unix socket: a thin gRPC shell around session.Session.

The private key passes here and nowhere else, so only the proxy's own user and group may open the socket (SEC29).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from agent.sds.secrets import Secret, Secrets
from agent.sds.session import Session
from wire import names

SERVICE: Final = "envoy.service.secret.v3.SecretDiscoveryService"
_LOG: Final = logging.getLogger("sds")
_SOCKET_MODE: Final = 0o660
_LOOK_SECONDS: Final = 2.0

Request = discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest
Context = grpc.aio.ServicerContext[Any, Any]


class SdsServer:
    """Serves ``secrets`` on a unix socket."""

    def __init__(self, secrets: Secrets, path: str) -> None:
        """Use this path (relative ones are of the working directory, as in Istio)."""
        self._secrets = secrets
        self._path = path
        self._server = grpc.aio.server()

    async def start(self) -> None:
        """Listen; a socket left over by an earlier run is replaced.

        Raises:
            OSError: the folder cannot be made.
            RuntimeError: the socket cannot be bound.
        """
        self._server.add_generic_rpc_handlers((self._handler(),))
        self._bind()
        await self._server.start()

    async def stop(self) -> None:
        """End all streams."""
        await self._server.stop(None)

    def _bind(self) -> None:
        path = pathlib.Path(self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        mask = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        finally:
            os.umask(mask)

    def _handler(self) -> grpc.GenericRpcHandler:
        world = grpc.stream_stream_rpc_method_handler(
            self._stream_secrets,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )
        delta = grpc.stream_stream_rpc_method_handler(
            self._delta_secrets,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamSecrets": world, "DeltaSecrets": delta})

    async def _stream_secrets(self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest], context: Context) -> None:
        def take(session: Session, request: discovery_pb2.DiscoveryRequest) -> None:
            session.replace(request.resource_names, request.response_nonce)

        async def send(session: Session, secrets: tuple[Secret, ...]) -> None:
            response = discovery_pb2.DiscoveryResponse(
                version_info=secrets[-1].version, type_url=names.SECRET, nonce=session.sent(secrets)
            )
            for secret in secrets:
                response.resources.add(type_url=names.SECRET, value=secret.body)
            await context.write(response)

        await self._serve(requests, take, send)

    async def _delta_secrets(
        self, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest], context: Context
    ) -> None:
        def take(session: Session, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
            session.change(
                request.resource_names_subscribe,
                request.resource_names_unsubscribe,
                request.initial_resource_versions,
            )

        async def send(session: Session, secrets: tuple[Secret, ...]) -> None:
            response = discovery_pb2.DeltaDiscoveryResponse(type_url=names.SECRET, nonce=session.sent(secrets))
            for secret in secrets:
                resource = response.resources.add(name=secret.name, version=secret.version)
                resource.resource.type_url = names.SECRET
                resource.resource.value = secret.body
            await context.write(response)

        await self._serve(requests, take, send)

    async def _serve(
        self,
        requests: AsyncIterator[Any],
        take: Callable[[Session, Any], None],
        send: Callable[[Session, tuple[Secret, ...]], Awaitable[None]],
    ) -> None:
        """Take requests and send what is due until the client ends the stream."""
        session = Session()
        asked = asyncio.Event()

        async def read() -> None:
            async for request in requests:
                _report(request)
                take(session, request)
                asked.set()

        reader = asyncio.create_task(read())
        try:
            while not reader.done():
                asked.clear()
                seen = self._secrets.generation  # before looking: what is published meanwhile ends the wait at once
                due = session.due(self._secrets.get)
                if due:
                    await send(session, due)
                waiters = {
                    reader,
                    asyncio.create_task(asked.wait()),
                    asyncio.create_task(self._secrets.changed(seen, session.wanted)),
                }
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
                await _cancel(waiters - {reader})
        finally:
            await _cancel({reader})


async def served(path: str) -> bool:
    """Whether somebody serves at this unix socket. One that was left over by a program that is gone is nobody's."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            _, writer = await asyncio.open_unix_connection(path)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _report(request: Request) -> None:
    if request.error_detail.code:
        _LOG.error("Envoy refused a secret: %s", request.error_detail.message)


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

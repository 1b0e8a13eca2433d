"""``istio.v1.auth.IstioCertificateService`` on 15012: a token decides who the caller is, the authority signs.

Wire-compatible with Istio's, so that Istio's own agents can ask too. Server-side TLS only: Python's gRPC cannot make
client certificates optional (DESIGN.md section 4), so callers prove themselves with a service-account token.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

import grpc
import grpc.aio

from istiod.ca import authority
from istiod.config import protocols
from protos import ca_pb2
from wire.spiffe import Identity

SERVICE: Final = "istio.v1.auth.IstioCertificateService"
METHOD: Final = "CreateCertificate"
MAX_REQUEST_BYTES: Final = 65_536
MAX_AGE_MS: Final = 30 * 60 * 1000
_BEARER: Final = "Bearer "

Context = grpc.aio.ServicerContext[ca_pb2.IstioCertificateRequest, ca_pb2.IstioCertificateResponse]


class CertificateService:
    """Answers CreateCertificate."""

    def __init__(
        self, ca: authority.Authority, verifier: protocols.TokenVerifier, now: Callable[[], dt.datetime]
    ) -> None:
        """Sign with ``ca`` for whom ``verifier`` recognises; ``now`` gives aware times."""
        self._ca = ca
        self._verifier = verifier
        self._now = now

    def handler(self) -> grpc.GenericRpcHandler:
        """For ``server.add_generic_rpc_handlers``: the service may share a server with others."""
        method = grpc.unary_unary_rpc_method_handler(
            self.create_certificate,
            request_deserializer=ca_pb2.IstioCertificateRequest.FromString,
            response_serializer=ca_pb2.IstioCertificateResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def create_certificate(
        self, request: ca_pb2.IstioCertificateRequest, context: Context
    ) -> ca_pb2.IstioCertificateResponse:
        """The chain for the caller's own identity; else UNAUTHENTICATED, UNAVAILABLE or INVALID_ARGUMENT."""
        identity = await self._authenticate(context)
        ttl = _ttl(request.validity_duration)
        try:
            chain = self._ca.sign(request.csr, identity, ttl, self._now())
        except authority.CsrRefusedError as refusal:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(refusal))
        return ca_pb2.IstioCertificateResponse(cert_chain=chain)

    async def _authenticate(self, context: Context) -> Identity:
        token = _bearer(context.invocation_metadata() or ())
        if not token:
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, "no bearer token in the metadata 'authorization'")
        try:
            identity = await self._verifier.verify(token)
        except protocols.UnavailableError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))
        if identity is None:
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, "the token proves no identity for this mesh")
        return identity


async def start(address: str, service: CertificateService, credentials: grpc.ServerCredentials) -> CertificateServer:
    """Serve on this address (``HOST:PORT``; port 0 takes a free one) until ``stop`` is called.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.max_connection_age_ms", MAX_AGE_MS),
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers((service.handler(),))
    port = server.add_secure_port(address, credentials)
    await server.start()
    return CertificateServer(server, port)


class CertificateServer:
    """A running server and the port it got."""

    def __init__(self, server: grpc.aio.Server, port: int) -> None:
        """Wrap a started server."""
        self._server = server
        self.port = port

    async def stop(self, grace: float = 1.0) -> None:
        """Refuse new calls, let running ones end within ``grace`` seconds."""
        await self._server.stop(grace)


def _ttl(seconds: int) -> dt.timedelta:
    """Asked life in seconds; anything beyond what timedelta holds is simply too long."""
    longest = int(authority.MAX_TTL.total_seconds()) + 1
    return dt.timedelta(seconds=max(0, min(seconds, longest)))


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    values = [value for key, value in metadata if key == "authorization" and isinstance(value, str)]
    if len(values) != 1 or not values[0].startswith(_BEARER):
        return ""
    return values[0].removeprefix(_BEARER).strip()


async def _abort(context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    """End the call. grpc.aio's abort raises; its stubs do not say so."""
    await context.abort(code, reason)
    raise AssertionError("abort returned")

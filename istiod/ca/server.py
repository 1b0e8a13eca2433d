"""``istio.v1.auth.IstioCertificateService``: a token decides who the caller is, the authority signs.

Wire-compatible with Istio's, so that Istio's own agents can ask too. Callers prove themselves with a service-account
token. One without a token may renew the certificate that it shows (a virtual machine has no token for ever), as far as
istiod.ca.renewal lets it: a certificate that could renew itself anywhere would outlive its workload.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from istiod import bearer
from istiod.ca import authority
from istiod.ca.counts import Counts
from istiod.ca.queue import Queue
from istiod.ca.renewal import Renewals
from istiod.ca.signer import Signs
from istiod.config import protocols
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from istiod.grpcserver.unary import unary
from protos import ca_pb2
from wire.spiffe import Identity

SERVICE: Final = "istio.v1.auth.IstioCertificateService"
METHOD: Final = "CreateCertificate"


class CertificateService:
    """Answers CreateCertificate."""

    def __init__(
        self,
        ca: Signs,
        verifier: protocols.TokenVerifier,
        now: Callable[[], dt.datetime],
        counts: Counts | None = None,
        renewals: Renewals | None = None,
    ) -> None:
        """Sign with ``ca`` for whom ``verifier`` recognises.

        ``now`` gives aware times, ``counts`` takes what happens, ``renewals`` decides who needs no token; None: nobody.
        """
        self._renewals = renewals
        self._queue = Queue()
        self._counts = counts if counts is not None else Counts()
        self._ca = ca
        self._verifier = verifier
        self._now = now

    def methods(self) -> Mapping[str, Method]:
        """For a grpcserver.Server."""
        return {f"/{SERVICE}/{METHOD}": unary(self.create_certificate)}

    async def create_certificate(self, raw: bytes, request: Request, client: Client) -> bytes:
        """The chain for the caller's own identity.

        Raises:
            RpcError: UNAUTHENTICATED, UNAVAILABLE or INVALID_ARGUMENT with the reason, or see Renewals.allow.
        """
        counts = self._counts
        counts.requests += 1
        try:
            identity, longest = await self._caller(request, client)
        except RpcError:
            counts.unauthenticated += 1
            raise
        try:
            asked = ca_pb2.IstioCertificateRequest.FromString(raw)
            ttl = _ttl(asked.validity_duration, self._ca.lives.longest)
            async with self._queue.turn():
                life = ttl if longest is None else min(ttl if ttl > dt.timedelta() else self._ca.lives.usual, longest)
                chain = self._ca.sign(asked.csr, identity, life, self._now())
        except DecodeError as error:
            counts.unreadable += 1
            raise RpcError(Code.INVALID_ARGUMENT, "the message is no certificate request") from error
        except authority.CsrRefusedError as refusal:
            counts.unreadable += isinstance(refusal, authority.UnreadableCsrError)
            counts.refused[refusal.kind] += 1
            raise RpcError(Code.INVALID_ARGUMENT, str(refusal)) from refusal
        counts.issued += 1
        return ca_pb2.IstioCertificateResponse(cert_chain=chain).SerializeToString()

    async def _caller(self, request: Request, client: Client) -> tuple[Identity, dt.timedelta | None]:
        """Who asks, and for how long the certificate may be at most; None: as long as any."""
        if self._renewals is not None and client.certificate is not None and not request.values(b"authorization"):
            return self._renewals.allow(client, self._now())
        return await bearer.proven(request, self._verifier), None


def _ttl(seconds: int, longest: dt.timedelta) -> dt.timedelta:
    """Asked life in seconds, 0 for the default; anything beyond what timedelta holds is simply too long.

    Raises:
        authority.TtlRefusedError: it is negative.
    """
    if seconds < 0:
        raise authority.TtlRefusedError(f"a validity_duration of {seconds} s is negative")
    return dt.timedelta(seconds=min(seconds, int(longest.total_seconds()) + 1))

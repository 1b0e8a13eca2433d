"""``istio.v1.auth.IstioCertificateService``: a token decides who the caller is, the authority signs.

Wire-compatible with Istio's, so that Istio's own agents can ask too. Callers prove themselves with a service-account
token. One without a token may renew the certificate that it shows (a virtual machine has no token for ever), as far as
istiod.ca.renewal lets it: a certificate that could renew itself anywhere would outlive its workload.
"""

from __future__ import annotations

import datetime as dt
import logging
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
from istiod.grpcserver.budget import Budget
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from istiod.grpcserver.unary import unary
from protos import ca_pb2
from wire.spiffe import Identity

SERVICE: Final = "istio.v1.auth.IstioCertificateService"
METHOD: Final = "CreateCertificate"
_OTHER: Final = "ImpersonatedIdentity"
"""Name in a request's metadata: whose certificate is asked for, where that is not the caller's."""
_LINES: Final = (50, 1.0)
"""Lines of the log about that: at once, and per second in the long run."""
_MOST_SECONDS: Final = 10**10
"""Beyond any life: timedelta cannot hold all that a client can ask for."""
_LOGGER: Final = logging.getLogger(__name__)


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
        self._lines = Budget(*_LINES, now().timestamp())

    def methods(self) -> Mapping[str, Method]:
        """For a grpcserver.Server."""
        return {f"/{SERVICE}/{METHOD}": unary(self.create_certificate)}

    async def create_certificate(self, raw: bytes, request: Request, client: Client) -> bytes:
        """The chain for the caller's own identity.

        Raises:
            RpcError: UNAUTHENTICATED, UNAVAILABLE or INVALID_ARGUMENT with the reason, or see bearer.proven and
                Renewals.allow.
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
            self._for_itself(asked, identity)
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

    def _for_itself(self, asked: ca_pb2.IstioCertificateRequest, identity: Identity) -> None:
        """Nobody is trusted to ask for others, as Istio's node agents are: who tries is written down.

        Raises:
            RpcError: UNAUTHENTICATED.
        """
        if _OTHER not in asked.metadata.fields:
            return
        self._counts.unauthenticated += 1
        if self._lines.spend(self._now().timestamp()):
            _LOGGER.warning("AUDIT: %s asked for the certificate of %.200r", identity, asked.metadata[_OTHER])
        raise RpcError(Code.UNAUTHENTICATED, "a certificate is for its caller only: nobody may ask for another's")

    async def _caller(self, request: Request, client: Client) -> tuple[Identity, dt.timedelta | None]:
        """Who asks, and for how long the certificate may be at most; None: as long as any."""
        if self._renewals is not None and client.certificate is not None and not request.values(b"authorization"):
            return self._renewals.allow(client, self._now())
        return await bearer.proven(request, self._verifier), None


def _ttl(seconds: int, longest: dt.timedelta) -> dt.timedelta:
    """Asked life in seconds, 0 for the default; anything beyond the longest is the longest.

    Raises:
        authority.TtlRefusedError: it is negative.
    """
    if seconds < 0:
        raise authority.TtlRefusedError(f"a validity_duration of {seconds} s is negative")
    return min(dt.timedelta(seconds=min(seconds, _MOST_SECONDS)), longest)

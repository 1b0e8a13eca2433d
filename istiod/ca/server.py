"""``istio.v1.auth.IstioCertificateService``: a token decides who the caller is, the authority signs.

Wire-compatible with Istio's, so that Istio's own agents can ask too. Callers prove themselves with a service-account
token, also where they show a certificate: a certificate that could renew itself would outlive its pod.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from istiod import bearer
from istiod.ca import authority
from istiod.ca.counts import Counts
from istiod.ca.signer import Signs
from istiod.config import protocols
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.unary import unary
from protos import ca_pb2

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
    ) -> None:
        """Sign with ``ca`` for whom ``verifier`` recognises.

        ``now`` gives aware times, ``counts`` takes what happens.
        """
        self._counts = counts if counts is not None else Counts()
        self._ca = ca
        self._verifier = verifier
        self._now = now

    def methods(self) -> Mapping[str, Method]:
        """For a grpcserver.Server."""
        return {f"/{SERVICE}/{METHOD}": unary(self.create_certificate)}

    async def create_certificate(self, raw: bytes, request: Request) -> bytes:
        """The chain for the caller's own identity.

        Raises:
            RpcError: UNAUTHENTICATED, UNAVAILABLE or INVALID_ARGUMENT with the reason.
        """
        counts = self._counts
        counts.requests += 1
        try:
            identity = await bearer.proven(request, self._verifier)
        except RpcError:
            counts.unauthenticated += 1
            raise
        try:
            asked = ca_pb2.IstioCertificateRequest.FromString(raw)
            chain = self._ca.sign(asked.csr, identity, _ttl(asked.validity_duration), self._now())
        except DecodeError as error:
            counts.unreadable += 1
            raise RpcError(Code.INVALID_ARGUMENT, "the message is no certificate request") from error
        except authority.CsrRefusedError as refusal:
            counts.unreadable += isinstance(refusal, authority.UnreadableCsrError)
            counts.refused[refusal.kind] += 1
            raise RpcError(Code.INVALID_ARGUMENT, str(refusal)) from refusal
        counts.issued += 1
        return ca_pb2.IstioCertificateResponse(cert_chain=chain).SerializeToString()


def _ttl(seconds: int) -> dt.timedelta:
    """Asked life in seconds, 0 for the default; anything beyond what timedelta holds is simply too long.

    Raises:
        authority.TtlRefusedError: it is negative.
    """
    if seconds < 0:
        raise authority.TtlRefusedError(f"a validity_duration of {seconds} s is negative")
    longest = int(authority.MAX_TTL.total_seconds()) + 1
    return dt.timedelta(seconds=min(seconds, longest))

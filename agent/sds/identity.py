"""Key, CSR and certificate of the workload, and their rotation at half life (features rows C5, C6).

The key is made here and never leaves the pod. The token is read anew for each request, since the kubelet rotates it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import pathlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import metrics
from agent.sds import secrets
from protos import ca_pb2
from wire import names
from wire.spiffe import Identity

METHOD: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
CALL_SECONDS: Final = 10.0
BACK_OFF: Final = (0.5, 10.0)
JITTER: Final = 0.05
ROOTS_POLL_SECONDS: Final = 15.0
_LOG: Final = logging.getLogger("identity")

Sign = Callable[[str], Awaitable[Sequence[str]]]
"""A CSR in PEM to a chain, leaf first, root last. Raises IdentityError."""


class IdentityError(Exception):
    """No certificate could be had this time: token or roots unreadable, CA out of reach, request refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaClient:
    """Where and how to ask for certificates.

    Attributes:
        address: HOST:PORT of the CA.
        server_name: DNS name that its certificate must carry.
        token: File of the service-account token.
        roots: File of the PEM roots that vouch for the CA.
        ttl: Life asked for.
    """

    address: str
    server_name: str
    token: pathlib.Path
    roots: pathlib.Path
    ttl: dt.timedelta = dt.timedelta(hours=24)

    async def sign(self, csr: str) -> Sequence[str]:
        """The chain for this CSR, over one short connection.

        Raises:
            IdentityError: there is none this time.
        """
        try:
            token, pem = self.token.read_text().strip(), self.roots.read_bytes()
        except OSError as error:
            raise IdentityError(f"cannot read {error.filename}: {error.strerror}") from error
        request = ca_pb2.IstioCertificateRequest(csr=csr, validity_duration=int(self.ttl.total_seconds()))
        options = (
            ("grpc.ssl_target_name_override", self.server_name),
            ("grpc.service_config_disable_resolution", 1),  # a TXT look-up that a broken name server would let hang
            ("grpc.enable_http_proxy", 0),  # HTTP_PROXY is for what leaves the mesh
        )
        channel = grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(pem), options)
        async with channel:
            create = channel.unary_unary(
                METHOD,
                request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
                response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
            )
            try:
                answer = await create(request, metadata=(("authorization", f"Bearer {token}"),), timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise IdentityError(f"CA {self.address}: {error.code().name} {error.details()}") from error
        return tuple(answer.cert_chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A workload certificate with its key, as PEM; ``chain`` without the root."""

    key: bytes
    chain: bytes
    root: bytes
    expires: dt.datetime


async def obtain(sign: Sign, identity: Identity) -> Certificate:
    """A fresh P-256 key and its certificate. The CSR names ``identity`` for CAs that look at it; ours does not.

    Raises:
        IdentityError: there is none this time.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names_asked = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(names_asked, critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = await sign(csr.public_bytes(serialization.Encoding.PEM).decode())
    try:
        leaf, *_, root = (x509.load_pem_x509_certificate(pem.encode()) for pem in chain)
    except ValueError as error:
        raise IdentityError(f"the CA's answer is no certificate chain: {error}") from error
    if leaf.public_key() != key.public_key():
        raise IdentityError("the CA's certificate is for another key")
    return Certificate(
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        chain="".join(chain[:-1]).encode(),
        root=root.public_bytes(serialization.Encoding.PEM),
        expires=leaf.not_valid_after_utc,
    )


def rotation_delay(now: dt.datetime, expires: dt.datetime, chance: float) -> float:
    """Seconds until the next certificate: half the remaining life, give or take JITTER (``chance`` is 0 to 1)."""
    return max((expires - now).total_seconds() * (0.5 + (chance - 0.5) * 2 * JITTER), 0.0)


def back_off(failures: int, chance: float) -> float:
    """Seconds to wait after this many failures in a row (1 or more)."""
    return min(BACK_OFF[0] * 2.0 ** (failures - 1), BACK_OFF[1]) * (0.75 + chance / 2)


class Rotation:
    """Keeps ``default`` and ``ROOTCA`` published, for ever."""

    def __init__(
        self, client: CaClient, identity: Identity, published: secrets.Secrets, counted: metrics.Metrics
    ) -> None:
        """Publish into ``published`` what ``client`` gives for this identity, and tell ``counted`` of it."""
        self._counted = counted
        self._client = client
        self._identity = identity
        self._published = published
        self._root = b""

    async def run(self) -> None:
        """Obtain, publish, wait for half the life, again; failures are logged and tried again with back-off."""
        failures = 0
        while True:
            self._counted.requests += 1
            try:
                certificate = await obtain(self._client.sign, self._identity)
                roots = self._roots(certificate.root)
            except IdentityError as error:
                failures += 1
                self._counted.refused += 1
                delay = back_off(failures, random.random())  # noqa: S311 (spreads load; nothing secret)
                _LOG.warning("no certificate yet (attempt %d, next in %.1f s): %s", failures, delay, error)
            else:
                failures, self._root = 0, certificate.root
                self._counted.expires = certificate.expires.timestamp()
                workload = secrets.certificate(names.RESOURCE_WORKLOAD, certificate.chain, certificate.key)
                self._published.publish(workload, roots)
                delay = rotation_delay(dt.datetime.now(dt.UTC), certificate.expires, random.random())  # noqa: S311 (as above)
                _LOG.info("certificate until %s, next in %.0f s", certificate.expires, delay)
            await self._wait(delay)

    async def _wait(self, delay: float) -> None:
        """Wait, with an eye on the mounted roots: one that is being rotated in is trusted long before half life."""
        loop = asyncio.get_running_loop()
        end = loop.time() + delay
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, ROOTS_POLL_SECONDS))
            self._follow_roots()

    def _follow_roots(self) -> None:
        published = self._published.get(names.RESOURCE_ROOT)
        if published is None:
            return
        try:
            roots = self._roots(self._root)
        except IdentityError as error:
            _LOG.warning("keeping the roots known so far: %s", error)
            return
        if roots != published:
            _LOG.info("the mounted roots changed")
            self._published.publish(roots)

    def _roots(self, root: bytes) -> secrets.Secret:
        """Roots to trust: those in the mounted file and the one that the CA answered with."""
        try:
            mounted = self._client.roots.read_bytes()
            pems = [c.public_bytes(serialization.Encoding.PEM) for c in x509.load_pem_x509_certificates(mounted)]
        except (OSError, ValueError) as error:
            raise IdentityError(f"cannot use the roots in {self._client.roots}: {error}") from error
        return secrets.roots(names.RESOURCE_ROOT, b"".join(dict.fromkeys((*pems, root))))

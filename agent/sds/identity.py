"""Key, CSR and certificate of the workload (features rows C5, C6); agent.sds.rotation renews them.

The key is made here and never leaves the pod. The token is read anew for each request, since the kubelet rotates it
(fault FT39). Where there is none, as on a virtual machine, the certificate that is held, or one that was provisioned
(PROV_CERT), proves who asks.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from agent.sds import keys
from agent.sds.addresses import Addresses
from protos import ca_pb2
from wire.certificates import UNREADABLE
from wire.spiffe import Identity

METHOD: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
CALL_SECONDS: Final = 10.0
CHAIN_FILE: Final = "cert-chain.pem"
KEY_FILE: Final = "key.pem"
ROOT_FILE: Final = "root-cert.pem"
"""Names in the folders of PROV_CERT, OUTPUT_CERTS and file-mounted certificates, as in Istio."""

Metadata = tuple[tuple[str, str], ...]
Sign = Callable[[str], Awaitable[Sequence[str]]]
"""A CSR in PEM to a chain, leaf first, the roots last, as one text. Raises IdentityError."""


class IdentityError(Exception):
    """No certificate could be had this time: token or roots unreadable, CA out of reach, request refused."""


@dataclass(slots=True)
class Roots:
    """Who vouches for the CA: roots in a mounted file, and those that it named itself with a certificate of ours.

    The file of a ConfigMap comes a minute late; a CA that is being replaced is known by what it said before.
    """

    path: pathlib.Path
    named: bytes = b""

    def read(self) -> bytes:
        """All of them, PEM.

        Raises:
            OSError: the file cannot be read.
        """
        return self.path.read_bytes() + b"\n" + self.named


@dataclass(frozen=True, slots=True, kw_only=True)
class CaClient:
    """Where and how to ask for certificates.

    Attributes:
        address: HOST:PORT of the CA.
        server_name: DNS name that its certificate must carry.
        token: File of the service-account token.
        roots: The roots that vouch for the CA.
        ttl: Life asked for.
        provisioned: Folder of a certificate to be shown where there is no token and none is held; None: no folder.
        addresses: What the address stands for.
    """

    address: str
    server_name: str
    token: pathlib.Path
    roots: Roots
    ttl: dt.timedelta = dt.timedelta(hours=24)
    provisioned: pathlib.Path | None = None
    addresses: Addresses = field(default_factory=Addresses)

    async def sign(self, csr: str, held: Certificate | None = None) -> Sequence[str]:
        """The chain for this CSR, over one short connection. ``held`` is the certificate that it is to follow.

        Raises:
            IdentityError: there is none this time.
        """
        request = ca_pb2.IstioCertificateRequest(csr=csr, validity_duration=int(self.ttl.total_seconds()))
        async with self.channel(held) as (channel, metadata):
            create = channel.unary_unary(
                METHOD,
                request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
                response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
            )
            try:
                answer = await create(request, metadata=metadata, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise IdentityError(f"CA {self.address}: {error.code().name} {error.details()}") from error
        return tuple(answer.cert_chain)

    @contextlib.asynccontextmanager
    async def channel(self, held: Certificate | None = None) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
        """One connection to the control plane, and the metadata that prove to it who calls.

        Raises:
            IdentityError: there is no proof, or it cannot be read.
        """
        token, pem, pair = self._proof(held)
        options = (
            ("grpc.ssl_target_name_override", self.server_name),
            ("grpc.service_config_disable_resolution", 1),  # a TXT look-up that a broken name server would let hang
            ("grpc.enable_http_proxy", 0),  # HTTP_PROXY is for what leaves the mesh
        )
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        target = await self.target()
        async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(pem, *pair), options) as channel:
            yield channel, metadata

    async def target(self) -> str:
        """The address for gRPC, with what its name stands for.

        Raises:
            IdentityError: nobody knows, and nobody ever did.
        """
        try:
            return await self.addresses.target(self.address)
        except OSError as error:
            raise IdentityError(f"{self.address}: {error}") from error

    def _proof(self, held: Certificate | None) -> tuple[str, bytes, tuple[()] | tuple[bytes, bytes]]:
        """Token, roots, and what is shown besides: key and chain. A token is enough, where there is one.

        Raises:
            IdentityError: there is no proof, or it cannot be read.
        """
        try:
            pem = self.roots.read()
            if self.token.exists() or (held is None and self.provisioned is None):
                return self.token.read_text().strip(), pem, ()
            if held is not None and held.expires > dt.datetime.now(dt.UTC):
                return "", pem, (held.key, held.chain)
            if self.provisioned is None:
                raise IdentityError(f"the certificate has expired, and there is no token in {self.token}")
            pair = (self.provisioned / KEY_FILE).read_bytes(), (self.provisioned / CHAIN_FILE).read_bytes()
        except OSError as error:
            raise IdentityError(f"cannot read {error.filename}: {error.strerror}") from error
        return "", pem, pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A workload certificate with its key, as PEM; ``chain`` without the roots, which are those that the CA named."""

    key: bytes
    chain: bytes
    roots: bytes
    begins: dt.datetime
    expires: dt.datetime


async def obtain(sign: Sign, identity: Identity, kind: keys.KeyKind = keys.DEFAULT) -> Certificate:
    """A fresh key and its certificate. The CSR names ``identity`` for CAs that look at it; ours does not.

    Raises:
        IdentityError: there is none this time.
    """
    key = kind.generate()
    names_asked = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(names_asked, critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = await sign(csr.public_bytes(serialization.Encoding.PEM).decode())
    try:
        leaf, *_ = (x509.load_pem_x509_certificate(pem.encode()) for pem in chain[:-1])
        roots = x509.load_pem_x509_certificates(chain[-1].encode())
    except (*UNREADABLE, IndexError) as error:
        raise IdentityError(f"the CA's answer is no certificate chain: {error}") from error
    if leaf.public_key() != key.public_key():
        raise IdentityError("the CA's certificate is for another key")
    return Certificate(
        key=keys.pem(key),
        chain="".join(chain[:-1]).encode(),
        roots=b"".join(root.public_bytes(serialization.Encoding.PEM) for root in roots),
        begins=leaf.not_valid_before_utc,
        expires=leaf.not_valid_after_utc,
    )

"""The certificate authority: a CSR and an authenticated identity in, a certificate chain out.

Pure but for fresh serial numbers and keys: the clock is an argument, storage is keystore's, the network is server's.
The identity always comes from the caller's proof, never from the request (features rows C5, O3; hostile-input SEC11,
SEC12): of a CSR only the public key is used, after it has proved that it holds the private one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wire import names
from wire.certificates import UNREADABLE
from wire.spiffe import Identity

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ROOT_LIFE: Final = dt.timedelta(days=3650)
DEFAULT_TTL: Final = dt.timedelta(hours=24)
MAX_TTL: Final = dt.timedelta(days=90)
SERVING_TTL: Final = dt.timedelta(days=30)
CLOCK_SKEW: Final = dt.timedelta(seconds=names.BACKDATING_SECONDS)
"""How far certificates are dated back, for peers whose clocks are behind (fault FT33)."""
MAX_CSR_CHARS: Final = 16_384
RSA_BITS: Final = (2048, 4096)
CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_CHANCE_BITS: Final = 120
"""Random bits of a serial number; above them stands which roots went along (``fingerprint``)."""

_USAGE: Final = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
_LEAF_USAGE: Final = x509.KeyUsage(**_USAGE | {"digital_signature": True, "key_encipherment": True})
_PURPOSES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_NO_CA: Final = x509.BasicConstraints(ca=False, path_length=None)


class AuthorityError(Exception):
    """The authority's own key material cannot be used: unreadable, not a CA, or key and certificate differ."""


class CsrRefusedError(Exception):
    """A certificate request that is not signed; the message is the reason, fit for the client to read.

    ``kind`` is Istio's word for it (security/pkg/pki/error).
    """

    kind = "CSR_ERROR"


class UnreadableCsrError(CsrRefusedError):
    """It is no certificate request."""


class TtlRefusedError(CsrRefusedError):
    """The life asked for is negative."""

    kind = "TTL_ERROR"


class CaExpiredError(CsrRefusedError):
    """Whatever the CA signed now, nobody would accept."""

    kind = "CERT_GEN_ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """How long workloads' certificates live: the ``usual`` life, and the ``longest`` that may be asked for."""

    usual: dt.timedelta = DEFAULT_TTL
    longest: dt.timedelta = MAX_TTL

    def of(self, ttl: dt.timedelta) -> dt.timedelta:
        """The life for one that is asked; zero or less means the usual one, more than the longest the longest."""
        return min(ttl, self.longest) if ttl > dt.timedelta() else self.usual


USUAL: Final = Lives()


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A certificate with its key, as PEM. ``chain`` holds what lies between it and ``roots``; empty if nothing does."""

    certificate: bytes
    key: bytes = field(repr=False)
    chain: bytes
    roots: bytes


def self_signed(organization: str, now: dt.datetime, life: dt.timedelta = ROOT_LIFE) -> Material:
    """A new root, of 10 years if nothing else is said (features row O1), with an ECDSA P-256 key.

    Args:
        organization: Subject's O; Istio puts the trust domain there.
        now: Aware time; validity starts CLOCK_SKEW before it.
        life: How long it is good from now on.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    builder = (
        _builder(name, key.public_key(), now, life)
        .issuer_name(name)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**_USAGE | {"key_cert_sign": True, "crl_sign": True}), critical=True)
    )
    certificate = _pem(builder.sign(key, hashes.SHA256()))
    return Material(certificate=certificate, key=private_pem(key), chain=b"", roots=certificate)


class Authority:
    """Signs with one CA certificate. Holds no state but its material, so any number of replicas may share it."""

    lives: Final = USUAL

    def __init__(self, material: Material) -> None:
        """Take the material.

        Raises:
            AuthorityError: it cannot be parsed, is no CA, or the key is another one's.
        """
        try:
            self._certificate = x509.load_pem_x509_certificate(material.certificate)
            key = serialization.load_pem_private_key(material.key, password=None)
            self._chain = tuple(_split(material.chain))
            self._roots = tuple(_split(material.roots))
            belongs = key.public_key() == self._certificate.public_key()
            signs = _is_ca(self._certificate)
        except (*UNREADABLE, TypeError) as error:
            raise AuthorityError(f"cannot read the CA's material: {error}") from error
        if not isinstance(key, PrivateKey):
            raise AuthorityError("the CA's key is neither ECDSA nor RSA")
        if not belongs:
            raise AuthorityError("the CA's key does not belong to its certificate")
        if not signs:
            raise AuthorityError("the CA's certificate may not sign others (no CA:TRUE)")
        if not self._roots:
            raise AuthorityError("the CA has no root certificate")
        self.anchor = _anchor(self._certificate, self._chain, self._roots)
        self.material = material
        self._key = key
        self._names_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        self._fingerprint = fingerprint(self._roots)

    @property
    def roots(self) -> str:
        """PEM of the roots that clients must trust."""
        return "".join(self._roots)

    @property
    def key_id(self) -> bytes:
        """What certificates that it signs name as their issuer's key (RFC 5280 4.2.1.1)."""
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()).digest

    @property
    def root_expires(self) -> dt.datetime:
        """When the first of the roots ends."""
        found = x509.load_pem_x509_certificates(self.roots.encode())
        return min(each.not_valid_after_utc for each in found)

    def ends(self) -> tuple[tuple[str, dt.datetime, dt.datetime], ...]:
        """What can end: ``root`` (the first one to end) and ``ca``, with the beginning and the end of its life."""
        found = x509.load_pem_x509_certificates(self.roots.encode())
        first = min(found, key=lambda each: each.not_valid_after_utc)
        return tuple(
            (name, each.not_valid_before_utc, each.not_valid_after_utc)
            for name, each in (("root", first), ("ca", self._certificate))
        )

    def trusting(self, roots: Iterable[str]) -> Authority:
        """The same CA, whose clients are told to trust these roots (PEM)."""
        return Authority(replace(self.material, roots="".join(roots).encode()))

    def life(self, wanted: dt.timedelta, now: dt.datetime) -> dt.timedelta:
        """How long a certificate lives that is to live so long; never longer than the CA itself.

        Raises:
            CaExpiredError: the CA has expired.
        """
        left = self._certificate.not_valid_after_utc - now
        if left <= dt.timedelta():
            raise CaExpiredError("the CA's own certificate has expired")
        return min(wanted, left)

    def sign(
        self, csr_pem: str, identity: Identity, ttl: dt.timedelta, now: dt.datetime, lives: Lives = USUAL
    ) -> tuple[str, ...]:
        """The chain for a workload: leaf first, then what lies between, then all roots as one text; PEM.

        Args:
            csr_pem: The request. Its subject, names and extensions are ignored.
            identity: Who asks, as authentication proved it; the only SAN of the certificate.
            ttl: Life asked for; zero or less means the usual one.
            now: Aware time.
            lives: What may be asked for.

        Raises:
            CsrRefusedError: the request cannot be parsed, its key is unfit, its signature is wrong, or the CA itself
                has expired.
        """
        public = _proven_key(csr_pem)
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
        leaf = self._leaf(public, san, self.life(lives.of(ttl), now), now)
        return leaf, *self._chain, self.roots

    def serving(self, hosts: tuple[str, ...], now: dt.datetime, ttl: dt.timedelta = SERVING_TTL) -> Material:
        """A fresh key and certificate for one of our own servers, for these DNS names and IP addresses.

        Raises:
            CsrRefusedError: the CA itself has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        san = x509.SubjectAlternativeName([_general_name(name) for name in hosts])
        leaf = self._leaf(key.public_key(), san, self.life(ttl, now), now)
        return Material(
            certificate=leaf.encode(),
            key=private_pem(key),
            chain="".join(self._chain).encode(),
            roots=self.roots.encode(),
        )

    def _leaf(self, public: PublicKey, san: x509.SubjectAlternativeName, life: dt.timedelta, now: dt.datetime) -> str:
        builder = (
            _builder(x509.Name([]), public, now, life)
            .issuer_name(self._certificate.subject)
            .serial_number(self._fingerprint << _CHANCE_BITS | secrets.randbits(_CHANCE_BITS))
            .add_extension(_NO_CA, critical=True)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(_PURPOSES, critical=False)
            .add_extension(self._names_issuer, critical=False)
            .add_extension(san, critical=True)  # RFC 5280 4.2.1.6: critical where the subject is empty
        )
        return _pem(builder.sign(self._key, hashes.SHA256())).decode()


def fingerprint(roots: Iterable[str]) -> int:
    """32 bits that stand for a set of roots (PEM).

    Each leaf carries them in its serial number. Whoever shows a leaf has so been told these roots along with it, and
    has seen it himself: an answer of the CA is one message. That proves it to any replica, without a common memory.
    """
    digest = hashlib.sha256(b"".join(sorted(each.strip().encode() for each in roots))).digest()
    return int.from_bytes(digest[:4])


@dataclass(frozen=True, slots=True)
class Shown:
    """What a client's certificate says of where it comes from: see ``fingerprint`` and ``Authority.key_id``."""

    fingerprint: int
    issuer: bytes


def shown(certificate: bytes) -> Shown:
    """Read a leaf (DER). One that another CA made, or that is unreadable, names no roots and no issuer of ours."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        issuer = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (*UNREADABLE, x509.ExtensionNotFound):
        return Shown(-1, b"")
    return Shown(found.serial_number >> _CHANCE_BITS, issuer or b"")


def split(pem: str) -> tuple[str, ...]:
    """The certificates in a PEM text, each as a text of its own.

    Raises:
        ValueError: it is none.
    """
    return tuple(_split(pem.encode()))


def private_pem(key: PrivateKey) -> bytes:
    """PKCS8 PEM, unencrypted (features row C6)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(subject: x509.Name, public: PublicKey, now: dt.datetime, life: dt.timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _proven_key(csr_pem: str) -> PublicKey:
    if len(csr_pem) > MAX_CSR_CHARS:
        raise UnreadableCsrError(f"the CSR is longer than {MAX_CSR_CHARS} characters")
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        public = csr.public_key()
    except UNREADABLE as error:
        raise UnreadableCsrError(f"the CSR cannot be read: {error}") from error
    key = _fit(public)  # before the signature: verifying with an oversized key is a way to burn our CPU
    try:
        proven = csr.is_signature_valid
    except UNREADABLE as error:
        raise CsrRefusedError(f"the CSR's signature cannot be checked: {error}") from error
    if not proven:
        raise CsrRefusedError("the CSR's signature does not prove possession of its key")
    return key


def _fit(public: object) -> PublicKey:
    if isinstance(public, rsa.RSAPublicKey):
        if not RSA_BITS[0] <= public.key_size <= RSA_BITS[1]:
            raise CsrRefusedError(f"RSA keys must have {RSA_BITS[0]} to {RSA_BITS[1]} bits, not {public.key_size}")
        return public
    if isinstance(public, ec.EllipticCurvePublicKey):
        if not isinstance(public.curve, CURVES):
            raise CsrRefusedError(f"ECDSA keys must be on P-256 or P-384, not {public.curve.name}")
        return public
    raise CsrRefusedError("the CSR's key is neither ECDSA nor RSA")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _anchor(certificate: x509.Certificate, chain: Iterable[str], roots: Iterable[str]) -> str:
    """Which of the roots (PEM) a CA's certificate hangs on.

    Raises:
        AuthorityError: on none: nobody would accept what it signs.
    """
    known = [x509.load_pem_x509_certificate(each.encode()) for each in chain]
    ends = [x509.load_pem_x509_certificate(each.encode()) for each in roots]
    place = certificate
    for _ in range(len(known) + 1):
        for root in ends:
            if root == place or _issued(place, root):
                return _pem(root).decode()
        above = [each for each in known if each != place and _issued(place, each)]
        if not above:
            break
        place = above[0]
    raise AuthorityError("the CA's certificate does not lead to one of its roots (cert-chain.pem, root-cert.pem)")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, TypeError, InvalidSignature):
        return False
    return True


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _split(pem: bytes) -> list[str]:
    return [_pem(certificate).decode() for certificate in x509.load_pem_x509_certificates(pem)] if pem.strip() else []


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

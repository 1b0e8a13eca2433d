"""Secrets that gateways terminate TLS with, or verify others by (features row E7).

Only Secrets that some object names are read. One that cannot be used is as if it were not there, unless its version
before could: then that one goes on serving, and the finding says so. The same holds for one that is gone while objects
still name it, and for one whose new certificate is over already (fault FT58, docs/decisions/0038-secrets-that-go.md).
Who may have it is decided by the scope's key.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import filterfalse

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crds import core
from crds.diagnostic import Code, Diagnostic, error
from crds.key import ConfigKey
from istiod.config.store import ConfigSnapshot, Kind
from istiod.mesh.policy import TlsMode
from istiod.mesh.scope import Cluster, Credential, DownstreamTls, UpstreamTls
from wire import names
from wire.certificates import UNREADABLE

SECRETS: Kind = ("", "Secret")
SPACES: Kind = ("", "Namespace")
CA_SUFFIX = "-cacert"
SCHEME = "kubernetes://"
_GONE = "the Secret is gone"
_LEAST_RSA = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

SecretName = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A Secret, read: what of it can be used.

    ``problem`` says what is wrong with its present version, ``kept`` whether the parts are therefore those of a version
    before. ``ends`` is when the certificate among the parts ends. ``home`` tells the Secret's Namespace from one that
    has its name later, whose owner must get nothing of it.
    """

    item: core.Secret
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    root: bytes = b""
    crl: bytes = b""
    ends: dt.datetime | None = None
    problem: str = ""
    kept: bool = False
    home: str = ""

    @property
    def usable(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.certificate or self.root)

    @property
    def state(self) -> str:
        """What is wrong, and what comes of it; "" where nothing is."""
        return self.problem + "; its version before goes on serving" * self.kept


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CredentialIndex:
    """The Secrets that some object names, by namespace and name."""

    materials: Mapping[SecretName, Material] = field(default_factory=dict)

    def resolve(
        self, namespace: str, tls: DownstreamTls | UpstreamTls, *, external: bool = True
    ) -> tuple[Credential, ...] | None:
        """The credentials of a TLS context for a router of ``namespace``; None where one of them is not there.

        ``external``: somebody serves keys in its pod; which ones, Envoy asks there.
        """
        if not external and any(map(is_external, (*certificates(tls), *roots(tls)))):
            return None
        found = []
        for name in filterfalse(is_external, certificates(tls)):
            own = self._get(namespace, name)
            if own is None or not own.certificate:
                return None
            found.append(Credential(name=SCHEME + bare(name), certificate=own.certificate, key=own.key))
        for name in filterfalse(is_external, roots(tls)):
            own = self._get(namespace, name) or self._get(namespace, name.removesuffix(CA_SUFFIX))
            if own is None or not own.root:
                return None
            found.append(Credential(name=SCHEME + bare(name), root=own.root, crl=own.crl))
        return tuple(found)

    def findings(self) -> Iterator[Diagnostic]:
        """Secrets that cannot be used."""
        for material in self.materials.values():
            if material.problem:
                yield error(Code.BAD_VALUE, material.item.key, "data", material.state)

    def wrong(self, namespace: str, tls: DownstreamTls) -> Iterator[Material]:
        """Secrets that a router of ``namespace`` ends TLS with although something is wrong with them."""
        for name in filterfalse(is_external, certificates(tls)):
            own = self._get(namespace, name)
            if own is not None and own.problem:
                yield own
        for name in filterfalse(is_external, roots(tls)):
            own = self._get(namespace, name) or self._get(namespace, name.removesuffix(CA_SUFFIX))
            if own is not None and own.problem:
                yield own

    def over(self, now: dt.datetime) -> Iterator[ConfigKey]:
        """Secrets whose certificate has ended, and nobody has said so yet."""
        return (one.item.key for one in self.materials.values() if _due(one, now))

    def _get(self, namespace: str, name: str) -> Material | None:
        home, slash, short = bare(name).rpartition("/")
        return self.materials.get((namespace, short)) if not slash or home == namespace else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """What routers of one namespace find in an index."""

    index: CredentialIndex
    namespace: str
    external: bool = False

    def open(self, tls: DownstreamTls | UpstreamTls) -> tuple[Credential, ...] | None:
        """See CredentialIndex.resolve."""
        return self.index.resolve(self.namespace, tls, external=self.external)

    def usable(self, clusters: Mapping[str, Cluster]) -> Mapping[str, Cluster]:
        """The clusters without those whose Secret is missing: they would never be ready."""
        return {name: one for name, one in clusters.items() if one.tls is None or self.open(one.tls) is not None}

    def needed(self, contexts: Iterable[DownstreamTls | UpstreamTls | None]) -> Mapping[str, Credential]:
        """The credentials of these contexts, by name."""
        return {one.name: one for tls in contexts if tls is not None for one in self.open(tls) or ()}


def bare(name: str) -> str:
    """A credential's name without its scheme."""
    return name.removeprefix(SCHEME)


def is_external(name: str) -> bool:
    """Whether somebody else in the proxy's pod serves the credential, not us (Istio: SDSExternalCredentialPrefix)."""
    return name.startswith(names.EXTERNAL_CREDENTIAL)


def certificates(tls: DownstreamTls | UpstreamTls) -> tuple[str, ...]:
    """Names of the Secrets with the context's own certificates."""
    if not tls.credential_name:
        return ()
    if isinstance(tls, DownstreamTls):
        return (tls.credential_name, *tls.more_credentials)
    return (tls.credential_name,) if tls.mode is TlsMode.MUTUAL else ()


def roots(tls: DownstreamTls | UpstreamTls) -> tuple[str, ...]:
    """Names of the Secrets with what the other side is verified by."""
    if isinstance(tls, DownstreamTls):
        name = tls.clients_credential
    else:
        name = "" if tls.insecure_skip_verify else tls.credential_name
    return (name + CA_SUFFIX,) if name else ()


def build(snapshot: ConfigSnapshot, named: frozenset[str], previous: CredentialIndex) -> CredentialIndex:
    """The index of a snapshot; ``previous`` where no Secret in it differs.

    Args:
        snapshot: all objects, and the time, by which certificates are over.
        named: the credentials that objects name, as they name them.
        previous: the index before.
    """
    now = snapshot.taken
    short = {bare(name).rpartition("/")[2] for name in filterfalse(is_external, named)}
    short |= {name.removesuffix(CA_SUFFIX) for name in short} | {name + CA_SUFFIX for name in short}
    homes = {key.name: item.metadata.uid or key.name for key, item in snapshot.of(*SPACES).items()}
    found: dict[SecretName, Material] = {}
    for key, item in snapshot.of(*SECRETS).items():
        if key.name in short and isinstance(item, core.Secret):
            name = (key.namespace, key.name)
            before = previous.materials.get(name)
            known = before is not None and before.item is item and before.problem != _GONE and not _due(before, now)
            made = before if before is not None and known else _read(item, before, now)
            home = homes.get(key.namespace, "")
            found[name] = made if made.home == home else replace(made, home=home)
    for name, before in previous.materials.items():
        here = before.home == homes.get(name[0], "")
        if here and name not in found and name[1] in short and before.usable:
            found[name] = before if before.problem == _GONE else replace(before, problem=_GONE, kept=True)
    same = found.keys() == previous.materials.keys() and all(previous.materials[n] is m for n, m in found.items())
    return previous if same else CredentialIndex(materials=found)


def _read(item: core.Secret, before: Material | None, now: dt.datetime | None) -> Material:
    try:
        made = _material(item)
    except ValueError as problem:
        return _kept(item, before, str(problem) or "cannot be read")
    if not (made.certificate or made.root) and before is not None and before.usable:
        return _kept(item, before, "there is neither a certificate nor a root in it any more")
    if now is None or made.ends is None or made.ends > now:
        return made
    over = f"the certificate has expired ({made.ends:%Y-%m-%dT%H:%M:%SZ})"
    if before is not None and before.ends is not None and before.ends > now:
        return replace(_kept(item, before, over), root=made.root, crl=made.crl)
    return replace(made, problem=over)


def _kept(item: core.Secret, before: Material | None, problem: str) -> Material:
    """What was good goes on, where there is such."""
    if before is None:
        return Material(item=item, problem=problem)
    return replace(before, item=item, problem=problem, kept=before.usable)


def _due(material: Material, now: dt.datetime | None) -> bool:
    """Whether a certificate that nothing was wrong with is over."""
    return now is not None and material.ends is not None and material.ends <= now and not material.problem


def _material(item: core.Secret) -> Material:
    """The parts of a Secret; kubernetes.io/tls and Istio's older names both.

    Raises:
        ValueError: something in it is no certificate, no key, or they do not belong together. Says nothing of values.
    """
    data = _data(item)
    certificate, key = _first(data, "cert", "tls.crt"), _first(data, "key", "tls.key")
    root, crl = _first(data, "cacert", "ca.crt"), _first(data, "crl", "ca.crl")
    ends = _check_pair(certificate, key) if certificate or key else None
    if root:
        _certificates(root, "the CA certificate")
    if crl:
        _check_crl(crl)
    return Material(item=item, certificate=certificate, key=key, root=root, crl=crl, ends=ends)


def _data(item: core.Secret) -> Mapping[str, bytes]:
    try:
        found = {name: base64.b64decode(value, validate=False) for name, value in item.data.items()}
    except binascii.Error:
        raise ValueError("data is not base64") from None
    return {**found, **{name: value.encode() for name, value in item.string_data.items()}}


def _first(data: Mapping[str, bytes], *names: str) -> bytes:
    return next((data[name] for name in names if data.get(name)), b"")


def _certificates(text: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except UNREADABLE:
        raise ValueError(f"{what} is no PEM certificate") from None


def _check_crl(text: bytes) -> None:
    try:
        x509.load_pem_x509_crl(text)
    except UNREADABLE:
        raise ValueError("the CRL is no PEM certificate revocation list") from None


def _check_pair(certificate: bytes, key: bytes) -> dt.datetime:
    """When the certificate ends."""
    own = _certificates(certificate, "the certificate")[0]
    try:
        public = own.public_key()
    except UNREADABLE:
        raise ValueError("the certificate's key is of a kind that nobody knows here") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (*UNREADABLE, TypeError):
        raise ValueError("the private key is no PEM key without a password") from None
    der = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*der) != private.public_key().public_bytes(*der):
        raise ValueError("the private key is not the certificate's")
    strong = isinstance(public, rsa.RSAPublicKey) and public.key_size >= _LEAST_RSA
    if not strong and not (isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES)):
        raise ValueError("Envoy takes RSA keys from 2048 bits and ECDSA keys on P-256, P-384 and P-521")
    return own.not_valid_after_utc

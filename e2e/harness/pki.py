"""The keys and certificates of a test cluster: made afresh for each, valid for days, thrown away with its folder.

ECDSA P-256 everywhere: all of a cluster's pairs are made in some 20 ms.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE: Final = dt.timedelta(days=7)
_AGO: Final = dt.timedelta(minutes=5)
_MASTERS: Final = "system:masters"
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Pki:
    """A folder of ``NAME.crt`` and ``NAME.key``, and ``NAME.kubeconfig`` for those who talk to the API server."""

    folder: Path

    def crt(self, name: str) -> str:
        """The path of a certificate."""
        return str(self.folder / f"{name}.crt")

    def key(self, name: str) -> str:
        """The path of a private key."""
        return str(self.folder / f"{name}.key")

    def kubeconfig(self, name: str) -> Path:
        """The path of a client's configuration."""
        return self.folder / f"{name}.kubeconfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make(folder: Path, server: str, node: str, addresses: Iterable[str]) -> Pki:
    """Everything that the programs of one cluster need, written into ``folder``.

    Args:
        folder: made if it is not there.
        server: the API server's URL, for the kubeconfig files.
        node: the name of the one node.
        addresses: IP addresses by which the API server and the kubelet are called, beside 127.0.0.1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pki = Pki(folder=folder)
    ips = ["127.0.0.1", *addresses]
    cluster, front = _authority(pki, "ca", "e2e-ca"), _authority(pki, "front-ca", "e2e-front-proxy-ca")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    _issue(pki, "apiserver", cluster, _subject("kube-apiserver"), _SERVER, [*_dns("localhost", *names), *_ips(ips)])
    node_name = _subject(f"system:node:{node}", "system:nodes")
    _issue(pki, "kubelet-server", cluster, node_name, _SERVER, [*_dns(node), *_ips(ips)])
    _issue(pki, "front-client", front, _subject("front-proxy-client"), _CLIENT)
    _issue(pki, "apiserver-kubelet-client", cluster, _subject("kube-apiserver-kubelet-client", _MASTERS), _CLIENT)
    clients = {
        "admin": _subject("admin", _MASTERS),
        "kubelet": node_name,
        "kube-controller-manager": _subject("system:kube-controller-manager"),
        "kube-scheduler": _subject("system:kube-scheduler"),
        "kube-proxy": _subject("system:kube-proxy"),
    }
    for name, subject in clients.items():
        _issue(pki, name, cluster, subject, _CLIENT)
        pki.kubeconfig(name).write_text(_kubeconfig(pki, name, server))
    _service_accounts(pki)
    return pki


def _dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def _ips(addresses: Iterable[str]) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]


def _subject(name: str, group: str = "") -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - _AGO).not_valid_after(now + _LIFE)


def _authority(pki: Pki, name: str, subject: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_subject(subject), _subject(subject), key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    _write(pki, name, key, certificate)
    return _Authority(certificate=certificate, key=key)


def _issue(
    pki: Pki,
    name: str,
    authority: _Authority,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    alternatives: Iterable[x509.GeneralName] = (),
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, authority.certificate.subject, key)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    names = list(alternatives)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write(pki, name, key, builder.sign(authority.key, hashes.SHA256()))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(pki: Pki, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    Path(pki.key(name)).write_bytes(_pem(key))
    Path(pki.key(name)).chmod(0o600)
    Path(pki.crt(name)).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _service_accounts(pki: Pki) -> None:
    """The pair that signs service accounts' tokens: ``sa.key`` and ``sa.pub``."""
    key = ec.generate_private_key(ec.SECP256R1())
    Path(pki.key("sa")).write_bytes(_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (pki.folder / "sa.pub").write_bytes(public)


def _kubeconfig(pki: Pki, name: str, server: str) -> str:
    """A configuration (JSON is YAML) that holds all it needs, so that the file alone can be handed on."""

    def data(path: str) -> str:
        return base64.b64encode(Path(path).read_bytes()).decode()

    user = {"client-certificate-data": data(pki.crt(name)), "client-key-data": data(pki.key(name))}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "e2e", "cluster": {"server": server, "certificate-authority-data": data(pki.crt("ca"))}}
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
            "current-context": "e2e",
        },
        indent=1,
    )

"""Certificates of the rig: authorities, servers and clients by name, and a list of those that are revoked."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NOW = dt.datetime.now(dt.UTC)
_LATER = _NOW + dt.timedelta(hours=2)


class Authority:
    """Signs certificates and writes them into a folder: NAME.pem, NAME.key and its own NAME.pem."""

    def __init__(self, name: str, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        made = self._made(self._name, self._key.public_key()).add_extension(ca, critical=True)
        self.certificate = made.sign(self._key, hashes.SHA256())
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *more: str, ends: dt.datetime = _LATER) -> x509.Certificate:
        """A certificate for a DNS name, a URI or an address, and for more such names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([_name(each) for each in (name, *more)])
        made = self._made(subject, key.public_key(), ends).add_extension(names, critical=False)
        certificate = made.sign(self._key, hashes.SHA256())
        (self._folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        (self._folder / f"{name}.key").write_bytes(pem)
        return certificate

    def revoke(self, name: str, *certificates: x509.Certificate) -> None:
        """Write a list of revoked certificates into NAME."""
        made = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(_NOW).next_update(_LATER)
        for each in certificates:
            one = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(_NOW)
            made = made.add_revoked_certificate(one.build())
        text = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (self._folder / name).write_bytes(text)

    def _made(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, ends: dt.datetime = _LATER
    ) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(_NOW - dt.timedelta(hours=1)).not_valid_after(ends)


def digests(certificate: x509.Certificate) -> dict[str, str]:
    """SHA-256 of a certificate, and of its public key, as Istio's fields have them."""
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    spki = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return {"hash": certificate.fingerprint(hashes.SHA256()).hex(), "spki": f'"{spki}"'}


def encoded(folder: Path, *names: str) -> dict[str, str]:
    """What Secrets hold: certificates and keys of the folder in base64, as NAME_crt and NAME_key ("." is "_")."""
    return {
        f"{name.replace('.', '_')}_{said}": base64.b64encode(file.read_bytes()).decode()
        for name in names
        for said, ending in (("crt", "pem"), ("key", "key"))
        if (file := folder / f"{name}.{ending}").exists()
    }


def _name(said: str) -> x509.GeneralName:
    if "://" in said:
        return x509.UniformResourceIdentifier(said)
    try:
        return x509.IPAddress(ipaddress.ip_address(said))
    except ValueError:
        return x509.DNSName(said)

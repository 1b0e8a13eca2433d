"""CAs of an operator's own, as `openssl` would make them: a root, and an intermediate that signs."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from istiod.ca import authority
from istiod.ca.authority import Material


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def intermediate(root: Material, name: str = "intermediate", life: dt.timedelta = dt.timedelta(days=365)) -> Material:
    """An intermediate below this self-signed root."""
    above = x509.load_pem_x509_certificate(root.certificate)
    signer = serialization.load_pem_private_key(root.key, password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(above.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - dt.timedelta(minutes=1))
        .not_valid_after(now() + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(signer, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    return Material(certificate=pem, key=authority.private_pem(key), chain=pem, roots=root.certificate)


def trusting(material: Material, *roots: Material) -> Material:
    """The same CA with these in root-cert.pem."""
    pem = b"".join(root.certificate for root in roots)
    return Material(certificate=material.certificate, key=material.key, chain=material.chain, roots=pem)

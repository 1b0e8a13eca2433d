"""Keys and certificates: istiod's root, and one certificate for each identity of the fleet, signed by it."""

from __future__ import annotations

import datetime as dt
import pathlib
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, keystore
from wire import names, spiffe


def write(home: pathlib.Path, identities: Iterable[tuple[str, str]]) -> None:
    """Write ``ca/``, ``token.pem``, ``root.pem`` and ``clients/NAMESPACE.ACCOUNT.crt`` and ``.key`` below ``home``."""
    now = dt.datetime.now(dt.UTC)
    ca = keystore.load_or_create(keystore.Folder(home / "ca"), names.DEFAULT_TRUST_DOMAIN, now)
    (home / "root.pem").write_text(ca.roots)
    (home / "clients").mkdir()
    key = ec.generate_private_key(ec.SECP256R1())  # one for all: making a thousand keys measures nothing
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (home / "token.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, public))
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    for namespace, account in identities:
        identity = spiffe.Identity(names.DEFAULT_TRUST_DOMAIN, namespace, account)
        chain = ca.sign(csr, identity, dt.timedelta(hours=12), now)
        stem = home / "clients" / f"{namespace}.{account}"
        stem.with_name(stem.name + ".crt").write_text("".join(chain[:-1]))
        stem.with_name(stem.name + ".key").write_bytes(authority.private_pem(key))

"""Where the CA's key material lives: a folder, or a Secret, which istiod.kube reads and makes.

File names are those of Istio's plugged-in CA (secret ``cacerts``), so that a user's own intermediate can be put there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Final, Protocol

from istiod.ca import authority

KEY: Final = "ca-key.pem"
CERTIFICATE: Final = "ca-cert.pem"
CHAIN: Final = "cert-chain.pem"
ROOTS: Final = "root-cert.pem"


class KeyStore(Protocol):
    """Keeps the CA's material over restarts."""

    def load(self) -> authority.Material | None:
        """What is kept, or None if nothing is.

        Raises:
            authority.AuthorityError: there is something, but it cannot be read.
        """
        ...

    def store(self, material: authority.Material) -> None:
        """Keep this material in place of any other.

        Raises:
            authority.AuthorityError: it cannot be written.
        """
        ...


class Folder:
    """A KeyStore of four PEM files. One process writes it (replicas share a Secret instead)."""

    def __init__(self, path: pathlib.Path) -> None:
        """Use this folder; it is made, for its owner only, when something is stored."""
        self._path = path

    def load(self) -> authority.Material | None:
        """As KeyStore. The certificate is written last, so without it nothing was ever completed."""
        if not (self._path / CERTIFICATE).exists():
            return None
        try:
            certificate, key, roots = ((self._path / name).read_bytes() for name in (CERTIFICATE, KEY, ROOTS))
            chain = self._path / CHAIN
            between = chain.read_bytes() if chain.exists() else b""
        except OSError as error:
            raise authority.AuthorityError(f"cannot read the CA's folder: {error}") from error
        return _material(certificate, key, between, roots)

    def store(self, material: authority.Material) -> None:
        """As KeyStore. Each file is replaced atomically and readable by its owner only."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path / KEY, material.key)
            write_private(self._path / CHAIN, material.chain)
            write_private(self._path / ROOTS, material.roots)
            write_private(self._path / CERTIFICATE, material.certificate)
        except OSError as error:
            raise authority.AuthorityError(f"cannot write the CA's folder: {error}") from error


def unpack(parts: Mapping[str, bytes], name: str) -> authority.Material:
    """The material in a Secret of Istio's, by file name: ``istio-ca-secret``, or the user's own ``cacerts``.

    Raises:
        authority.AuthorityError: a part is missing.
    """
    if missing := [key for key in (CERTIFICATE, KEY) if not parts.get(key)]:
        raise authority.AuthorityError(f"Secret {name} has no {' and no '.join(missing)}")
    roots = parts.get(ROOTS) or parts[CERTIFICATE]  # Istio's own secret leaves it empty: the CA is the root
    return _material(parts[CERTIFICATE], parts[KEY], parts.get(CHAIN, b""), roots)


def pack(material: authority.Material) -> Mapping[str, bytes]:
    """The inverse of ``unpack``."""
    return {CERTIFICATE: material.certificate, KEY: material.key, CHAIN: material.chain, ROOTS: material.roots}


def _material(certificate: bytes, key: bytes, chain: bytes, roots: bytes) -> authority.Material:
    """A plugged-in CA's cert-chain.pem begins with the CA's own certificate, as Istio documents it."""
    if certificate.strip() != roots.strip() and certificate.strip() not in chain:
        chain = certificate.rstrip() + b"\n" + chain
    return authority.Material(certificate=certificate, key=key, chain=chain, roots=roots)


def load_or_create(store: KeyStore, organization: str, now: dt.datetime) -> authority.Authority:
    """The store's authority; a new self-signed one is made and kept where there is none.

    Raises:
        authority.AuthorityError: the store cannot be read or written, or holds what cannot be used.
    """
    material = store.load()
    if material is None:
        material = authority.self_signed(organization, now)
        store.store(material)
    return authority.Authority(material)


def write_private(path: pathlib.Path, content: bytes) -> None:
    """Replace a file atomically, mode 0600.

    Raises:
        OSError: as the file system says.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp gives mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        pathlib.Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            pathlib.Path(name).unlink()
        raise

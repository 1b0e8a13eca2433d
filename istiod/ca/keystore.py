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
STATE: Final = "rotation.json"
"""What istiod.ca.rollover has to remember."""
ROTATE: Final = "rotate"
"""A file of this name in the CA's folder asks for a new self-signed root."""
TLS: Final = {CERTIFICATE: "tls.crt", KEY: "tls.key", ROOTS: "ca.crt"}
"""What the same parts are called in a Secret of type kubernetes.io/tls, as cert-manager makes it."""


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
        if not any((self._path / name).exists() for name in (CERTIFICATE, TLS[CERTIFICATE])):
            return None
        parts = {}
        try:
            for name in (CERTIFICATE, KEY, ROOTS, CHAIN, *TLS.values()):
                with contextlib.suppress(FileNotFoundError):
                    parts[name] = (self._path / name).read_bytes()
        except OSError as error:
            raise authority.AuthorityError(f"cannot read the CA's folder: {error}") from error
        return unpack(parts, f"folder {self._path}")

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file does: of each its inode, its size and its time of change."""
        found = []
        for name in (CERTIFICATE, KEY, ROOTS, CHAIN, *TLS.values()):
            with contextlib.suppress(OSError):
                stat = (self._path / name).stat()
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

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

    A Secret of type kubernetes.io/tls is taken, too (features row O2). ``name`` is for errors: ``Secret cacerts``.

    Raises:
        authority.AuthorityError: a part is missing.
    """
    if not parts.get(CERTIFICATE):
        parts = {**parts, **{ours: parts.get(theirs, b"") for ours, theirs in TLS.items() if not parts.get(ours)}}
        first, *rest = _pems(parts[CERTIFICATE])
        parts = {**parts, CERTIFICATE: first, CHAIN: parts.get(CHAIN) or first + b"".join(rest)} if rest else parts
    if missing := [key for key in (CERTIFICATE, KEY) if not parts.get(key)]:
        raise authority.AuthorityError(f"{name} has no {' and no '.join(missing)}")
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


def _pems(text: bytes) -> list[bytes]:
    """The certificates of tls.crt, which has the CA's own first and those above it after."""
    end = b"-----END CERTIFICATE-----"
    found = [part.strip() + b"\n" + end + b"\n" for part in text.split(end)[:-1]]
    return found or [text]


def load_or_create(
    store: KeyStore, organization: str, now: dt.datetime, life: dt.timedelta = authority.ROOT_LIFE
) -> authority.Authority:
    """The store's authority; a new self-signed one is made and kept where there is none.

    Raises:
        authority.AuthorityError: the store cannot be read or written, or holds what cannot be used.
    """
    material = store.load()
    if material is None:
        material = authority.self_signed(organization, now, life)
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

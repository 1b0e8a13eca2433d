"""Certificates in files: those mounted in place of ours, and ours where a user asks for them (features row C7).

Istio's variables: FILE_MOUNTED_CERTS (a CA outside of the mesh renews the files), OUTPUT_CERTS (the private key is
written only where this asks for it, hostile-input SEC29).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import tempfile
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent import metrics
from agent.sds import secrets
from agent.sds.identity import CHAIN_FILE, KEY_FILE, ROOT_FILE, IdentityError
from wire import names
from wire.certificates import UNREADABLE

POLL_SECONDS: Final = 5.0
_LOG: Final = logging.getLogger("identity")
_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """The three files."""

    chain: pathlib.Path
    key: pathlib.Path
    roots: pathlib.Path

    @property
    def there(self) -> bool:
        """Whether all of them exist."""
        return all(path.is_file() for path in (self.chain, self.key, self.roots))


@dataclass(frozen=True, slots=True)
class Output:
    """The folder of OUTPUT_CERTS."""

    folder: pathlib.Path

    def write(self, key: bytes, chain: bytes, roots: bytes) -> None:
        """Replace the three files, each at once; the key is its owner's. What cannot be written is logged."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, content, mode in ((KEY_FILE, key, _PRIVATE), (CHAIN_FILE, chain, _PUBLIC)):
                _replace(self.folder / name, content, mode)
            _replace(self.folder / ROOT_FILE, roots, _PUBLIC)
        except OSError as error:
            _LOG.error("cannot write OUTPUT_CERTS %s: %s", self.folder, error)


class FileIdentity:
    """Publishes mounted files as ``default`` and ``ROOTCA``, and again when they change; takes Rotation's place."""

    def __init__(self, mounted: Mounted, published: secrets.Secrets, counted: metrics.Metrics) -> None:
        """``counted`` is told when the certificate ends."""
        self._mounted = mounted
        self._published = published
        self._counted = counted
        self._problem = ""

    async def run(self) -> None:
        """Look for ever. Files that do not fit each other, as while they are replaced, leave what was served before."""
        while True:
            try:
                self._look()
                self._problem = ""
            except IdentityError as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    _LOG.warning("%s", error)
            await asyncio.sleep(POLL_SECONDS)

    def _look(self) -> None:
        found = self._mounted
        try:
            chain, key, roots = (path.read_bytes() for path in (found.chain, found.key, found.roots))
            leaf = x509.load_pem_x509_certificate(chain)
            fits = serialization.load_pem_private_key(key, password=None).public_key() == leaf.public_key()
            x509.load_pem_x509_certificates(roots)
        except (*UNREADABLE, OSError, TypeError) as error:
            raise IdentityError(f"cannot use the mounted certificates: {error}") from error
        if not fits:
            raise IdentityError(f"{found.key} is not the key of {found.chain}")
        made = (secrets.certificate(names.RESOURCE_WORKLOAD, chain, key), secrets.roots(names.RESOURCE_ROOT, roots))
        if any(self._published.get(each.name) != each for each in made):
            self._published.publish(*made)
            self._counted.expires = leaf.not_valid_after_utc.timestamp()
            _LOG.info("mounted certificate until %s", leaf.not_valid_after_utc)


def _replace(path: pathlib.Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        pathlib.Path(name).chmod(mode)
        pathlib.Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            pathlib.Path(name).unlink()
        raise

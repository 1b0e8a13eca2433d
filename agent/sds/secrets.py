"""The secrets that this pod may serve, as encoded resources with versions, and who waits for them to change.

``default`` and ``ROOTCA`` come from the identity; ``file-cert:CHAIN~KEY`` and ``file-root:FILE`` are files of the pod
that a rule or ProxyConfig names (Istio's spelling), read when asked for. ``file-root:system``: what the machine trusts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

FILE_CERTIFICATE: Final = "file-cert:"
FILE_ROOT: Final = "file-root:"
SYSTEM_ROOTS: Final = "file-root:system"
"""What the machine trusts: asked for where TLS is added without roots (Istio: FileRootSystemCACert)."""
_SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL 6
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/tls/cacert.pem",  # OpenELEC
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL 7 and later
    "/etc/ssl/cert.pem",  # Alpine
)
"""Where distributions have it, as Go's crypto/x509 knows them (root_linux.go); the first that is there counts."""
_FILE_POLL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One encoded envoy Secret. The version is a hash of the content: equal after a restart of the agent, too."""

    name: str
    version: str
    body: bytes


def certificate(name: str, chain: bytes, key: bytes) -> Secret:
    """A TLS certificate secret of PEM chain (leaf first, without root) and PEM key."""
    message = secret_pb2.Secret(name=name)
    message.tls_certificate.certificate_chain.inline_bytes = chain
    message.tls_certificate.private_key.inline_bytes = key
    return _secret(message)


def roots(name: str, pem: bytes) -> Secret:
    """A validation context that trusts these PEM roots."""
    message = secret_pb2.Secret(name=name)
    message.validation_context.trusted_ca.inline_bytes = pem
    return _secret(message)


class Secrets:
    """What is served now. One event loop's; changes wake every waiter."""

    def __init__(self) -> None:
        """Start with nothing: a stream that asks waits until something is published."""
        self._published: Mapping[str, Secret] = {}
        self._changed = asyncio.Event()
        self.generation = 0

    def publish(self, *secrets: Secret) -> None:
        """Serve these from now on, in place of those of the same names."""
        self._published = {**self._published, **{secret.name: secret for secret in secrets}}
        self.generation += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def get(self, name: str) -> Secret | None:
        """The secret of this name, or None if there is none (yet)."""
        if name.startswith((FILE_CERTIFICATE, FILE_ROOT)):
            return _from_files(name)
        return self._published.get(name)

    async def changed(self, since: int, names: frozenset[str]) -> None:
        """Return once the generation is later than ``since``, or at the next poll if one of these names is a file."""
        if self.generation > since:
            return
        polled = any(name.startswith((FILE_CERTIFICATE, FILE_ROOT)) for name in names)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FILE_POLL_SECONDS if polled else None):
                await self._changed.wait()


def _from_files(name: str) -> Secret | None:
    """A secret read from files; None while one of them is missing or empty, so that Envoy waits for it."""
    try:
        if name.startswith(FILE_ROOT):
            pem = _roots_file(name).read_bytes()
            return roots(name, pem) if pem else None
        chain, _, key = name.removeprefix(FILE_CERTIFICATE).partition("~")
        pems = pathlib.Path(chain).read_bytes(), pathlib.Path(key).read_bytes()
    except OSError:
        return None
    return certificate(name, *pems) if all(pems) else None


def _roots_file(name: str) -> pathlib.Path:
    if name != SYSTEM_ROOTS:
        return pathlib.Path(name.removeprefix(FILE_ROOT))
    known = [pathlib.Path(each) for each in _SYSTEM_FILES]
    return next((each for each in known if each.is_file()), known[0])


def _secret(message: secret_pb2.Secret) -> Secret:
    body = message.SerializeToString(deterministic=True)
    return Secret(name=message.name, version=hashlib.sha256(body).hexdigest()[:16], body=body)

"""The certificate of our own TLS servers (15012, 15011, the webhook): made by our CA, renewed without a restart.

Each connection asks for it: what it gets was prepared beforehand.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Callable
from typing import Final

from cryptography import x509

from istiod.ca import authority
from istiod.ca.signer import Signs
from istiod.grpcserver import tls

LOOK: Final = 60.0
"""Seconds between two looks at how much of its life is left, at the most ..."""
_LEAST: Final = 0.1
"""... and at the least."""
NAMES: Final = (
    "istiod.istio-system.svc",
    "istiod.istio-system.svc.cluster.local",
    "istiod.istio-system",
    "istiod",
    "istiod-remote.istio-system.svc",
    "istio-pilot.istio-system.svc",
    "localhost",
    "127.0.0.1",
    "::1",
)


class ServingCertificate:
    """Key, chain and roots for our servers."""

    def __init__(
        self,
        ca: Signs,
        now: Callable[[], dt.datetime],
        names: tuple[str, ...] = NAMES,
        ttl: dt.timedelta = authority.SERVING_TTL,
    ) -> None:
        """Make the first certificate at once.

        Raises:
            authority.CsrRefusedError: the CA has expired.
        """
        self._ca = ca
        self._now = now
        self._names = names
        self._ttl = ttl
        self._listeners: list[Callable[[], None]] = []
        self.renew()

    @property
    def material(self) -> authority.Material:
        """The present key and chain, for other servers."""
        return self._material

    @property
    def ends(self) -> dt.datetime:
        """When the present certificate ends."""
        return x509.load_pem_x509_certificate(self._material.certificate).not_valid_after_utc

    def listen(self, listener: Callable[[], None]) -> None:
        """Tell ``listener`` of each later renewal, in the thread that renews."""
        self._listeners.append(listener)

    def context(self) -> ssl.SSLContext:
        """What a new connection uses. Client certificates are optional, and must be of one of our roots."""
        return self._context

    def renew(self) -> None:
        """Make a new key and certificate; later handshakes use it.

        Raises:
            authority.CsrRefusedError: the CA has expired.
        """
        began = self._now()
        self._material = self._ca.serving(self._names, began, self._ttl)
        self._half = began + (self.ends - began) / 2
        chain = self._material.certificate + self._material.chain
        self._context = tls.context(self._material.key, chain, self._material.roots)
        for listener in self._listeners:
            listener()

    async def renew_forever(self) -> None:
        """Renew at each half life, until cancelled.

        By the clock that the life counts by, which may jump or go on while the machine sleeps. It is shorter than was
        asked for where the CA itself ends.

        Raises:
            authority.CsrRefusedError: the CA has expired.
        """
        while True:
            left = (self._half - self._now()).total_seconds()
            await asyncio.sleep(min(LOOK, max(_LEAST, left)))
            if self._now() >= self._half:
                self.renew()

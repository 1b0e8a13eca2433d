"""The certificate of our own TLS servers (15011, 15012, the webhook): made by our CA, renewed without a restart.

gRPC asks for it in each handshake, on a thread of its own: what it gets is an object prepared beforehand.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable
from typing import Any, Final

import grpc

from istiod.ca import authority

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


Configuration = grpc.ServerCertificateConfiguration


class Renewals:
    """What is new for one server's credentials: a configuration once after each renewal, otherwise None.

    gRPC takes each answer but None for a change, makes its TLS context anew from it, and frees the old one while other
    handshakes may still use it (grpc/grpc issue 36693): told the same configuration again at each handshake, it died of
    200 simultaneous connections. What remains is one exchange per renewal.
    """

    def __init__(self, configuration: Callable[[], Configuration], given: Configuration) -> None:
        """Follow ``configuration``; the credentials have ``given`` already."""
        self._configuration = configuration
        self._given = given
        self._lock = threading.Lock()

    def next(self) -> Configuration | None:
        """The present configuration, if the credentials have an older one. From any thread."""
        with self._lock:
            now = self._configuration()
            if now is self._given:
                return None
            self._given = now
            return now


class ServingCertificate:
    """Key, chain and roots for gRPC servers. Safe to ask from any thread."""

    def __init__(
        self,
        ca: authority.Authority,
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
        """The present key and chain, for servers that are not gRPC's."""
        return self._material

    def listen(self, listener: Callable[[], None]) -> None:
        """Tell ``listener`` of each later renewal, in the thread that renews."""
        self._listeners.append(listener)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What ``grpc.dynamic_ssl_server_credentials`` wants of its first argument."""
        return self._configuration

    def credentials(self, *, client_certificates: bool) -> grpc.ServerCredentials:
        """Credentials that follow renewals; with ``client_certificates`` a client must show one of our roots."""
        given = self._configuration
        renewed: Any = Renewals(self.configuration, given).next  # the stubs of gRPC do not know its None
        return grpc.dynamic_ssl_server_credentials(given, renewed, require_client_authentication=client_certificates)

    def renew(self) -> None:
        """Make a new key and certificate; later handshakes use it.

        Raises:
            authority.CsrRefusedError: the CA has expired.
        """
        self._material = self._ca.serving(self._names, self._now(), self._ttl)
        chain = self._material.certificate + self._material.chain
        self._configuration = grpc.ssl_server_certificate_configuration(
            [(self._material.key, chain)], root_certificates=self._material.roots
        )
        for listener in self._listeners:
            listener()

    async def renew_forever(self) -> None:
        """Renew at each half life, until cancelled."""
        while True:
            await asyncio.sleep(self._ttl.total_seconds() / 2)
            self.renew()

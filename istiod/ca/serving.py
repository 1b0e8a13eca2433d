"""The certificate of our own TLS servers (15011, 15012, the webhook): made by our CA, renewed without a restart.

gRPC asks for it in each handshake, on a thread of its own: what it gets is an object prepared beforehand.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Final

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
        self.renew()

    @property
    def material(self) -> authority.Material:
        """The present key and chain, for servers that are not gRPC's."""
        return self._material

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What ``grpc.dynamic_ssl_server_credentials`` wants of its second argument."""
        return self._configuration

    def credentials(self, *, client_certificates: bool) -> grpc.ServerCredentials:
        """Credentials that follow renewals; with ``client_certificates`` a client must show one of our roots."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration, self.configuration, require_client_authentication=client_certificates
        )

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

    async def renew_forever(self) -> None:
        """Renew at each half life, until cancelled."""
        while True:
            await asyncio.sleep(self._ttl.total_seconds() / 2)
            self.renew()

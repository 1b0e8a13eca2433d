"""When a certificate is proof enough for the next one: for workloads without a token, such as virtual machines.

A stolen copy of a key would renew itself for ever, and a certificate would outlive its workload. So the one that is
shown has to be of a workload that the mesh knows, and the call has to come from its address; the next one lives no
longer than it did; and one certificate buys only a few others. That it is signed below a root that is published now is
the transport's check.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from cryptography import x509

from istiod import bearer
from istiod.ca import authority
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from wire.certificates import UNREADABLE
from wire.spiffe import Identity

MOST: Final = 8
"""How many certificates one certificate buys: a renewal whose answer was lost is tried again."""
KEPT: Final = 20_000
"""How many certificates are remembered for that."""
Lives = Callable[[Identity, str], bool]
"""Whether the mesh knows a workload of an identity at an IP address."""


class Renewals:
    """Decides for the clients of one server. Holds counts only."""

    def __init__(self, lives: Lives, trust_domain: Callable[[], str]) -> None:
        self._lives = lives
        self._trust_domain = trust_domain
        self._counts: dict[int, int] = {}

    def allow(self, client: Client, now: dt.datetime) -> tuple[Identity, dt.timedelta]:
        """Whose certificate may be renewed, and for how long at most.

        Raises:
            RpcError: UNAUTHENTICATED, PERMISSION_DENIED or RESOURCE_EXHAUSTED with the reason.
        """
        try:
            identity = bearer.shown(client.certificate)
            found = x509.load_der_x509_certificate(client.certificate or b"")
        except UNREADABLE as error:
            raise RpcError(Code.UNAUTHENTICATED, str(error)) from error
        if identity.trust_domain != self._trust_domain() or now >= found.not_valid_after_utc:
            raise RpcError(Code.UNAUTHENTICATED, f"the certificate of {identity} proves no identity for this mesh now")
        host = client.address.rpartition(":")[0].strip("[]")
        if not self._lives(identity, host):
            reason = f"no workload of {identity} is known at {host}: without a token its certificate is not renewed"
            raise RpcError(Code.PERMISSION_DENIED, reason)
        life = found.not_valid_after_utc - found.not_valid_before_utc - authority.CLOCK_SKEW
        if life <= dt.timedelta():  # of another issuer below our roots; to the CA it would mean "as long as usual"
            raise RpcError(Code.PERMISSION_DENIED, f"the certificate of {identity} lives too short to be renewed")
        self._count(found.serial_number)
        return identity, life

    def _count(self, serial: int) -> None:
        bought = self._counts.pop(serial, 0) + 1
        self._counts[serial] = bought
        if bought > MOST:
            raise RpcError(Code.RESOURCE_EXHAUSTED, "the certificate has been renewed too often already")
        if len(self._counts) > KEPT:
            del self._counts[next(iter(self._counts))]

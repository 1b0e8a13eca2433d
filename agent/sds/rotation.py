"""Keeps the workload's certificate and the roots published: renewed before half life, early when roots come (row C6).

Times are taken from the certificate's own life and waited for by the monotonic clock: a pod whose clock is wrong
renews in time all the same (fault FT33).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import random
from dataclasses import dataclass
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent import metrics
from agent.sds import files, keys, secrets
from agent.sds.identity import CaClient, Certificate, IdentityError, obtain
from wire import names
from wire.certificates import UNREADABLE
from wire.spiffe import Identity

BACK_OFF: Final = (0.5, 10.0)
PAUSE: Final = 0.01
"""Part of a certificate's life that the CA is not asked in at the most: it may be back with a fiftieth of it left."""
ROOTS_POLL_SECONDS: Final = 15.0
EARLY_SECONDS: Final = 15.0
"""Within how many seconds a certificate is renewed after the mounted roots changed, spread by chance."""
ALARM: Final = 0.25
"""Part of a certificate's life that is left when the log says so (fault FT37)."""
LEAST: Final = 1.0
"""Seconds between two certificates at the least: lives shrink to nothing before the end of the CA itself."""
SKEW: Final = 15 * 60.0
"""Seconds by which our clock and the CA's may differ unsaid (fault FT33)."""
_LOG: Final = logging.getLogger("identity")
_CHANCE: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How certificates are renewed.

    Attributes:
        kind: The kind of key.
        ratio: Part of the life that is left when the next one is asked for (SECRET_GRACE_PERIOD_RATIO). More than half
            of it whatever the chance: the CA may go in that moment, for half of the life (fault FT37).
        jitter: By how much that part may differ, by chance (SECRET_GRACE_PERIOD_RATIO_JITTER).
        output: Where key, chain and roots are written, too (OUTPUT_CERTS); None: nowhere.
    """

    kind: keys.KeyKind = keys.DEFAULT
    ratio: float = 0.56
    jitter: float = 0.04
    output: files.Output | None = None


def rotation_delay(life: float, options: Options, chance: float) -> float:
    """Seconds until the next certificate, of a ``life`` in seconds; ``chance`` is 0 to 1."""
    left = min(max(options.ratio + (chance - 0.5) * 2 * options.jitter, 0.0), 1.0)
    return max(life * (1 - left), LEAST)


def life_left(certificate: Certificate, asked: dt.timedelta, now: dt.datetime) -> float:
    """Seconds that a certificate lives which came just now: at most those asked for, and those between its own dates.

    Where our clock says that it is over already, the clock is wrong: a CA gives none of these. A CA that is near its
    end gives less than was asked for. One that does not date back, as ours does, is taken to give what was asked for.
    """
    left = (certificate.expires - now).total_seconds()
    own = (certificate.expires - certificate.begins).total_seconds() - names.BACKDATING_SECONDS
    most = min(own, asked.total_seconds()) if own > 0 else asked.total_seconds()
    return min(left, most) if left > 0 else most


def skew(certificate: Certificate, now: dt.datetime) -> float:
    """By how many seconds the CA's clock is ahead of ours, by a certificate that came just now."""
    return (certificate.begins - now).total_seconds() + names.BACKDATING_SECONDS


def back_off(failures: int, chance: float, life: float = math.inf) -> float:
    """Seconds to wait after this many failures in a row (1 or more), with a certificate of a ``life`` in seconds."""
    return min(BACK_OFF[0] * 2.0 ** min(failures - 1, 30), BACK_OFF[1], life * PAUSE) * (0.75 + chance / 2)


class Rotation:
    """Keeps ``default`` and ``ROOTCA`` published, for ever."""

    def __init__(
        self,
        client: CaClient,
        identity: Identity,
        published: secrets.Secrets,
        counted: metrics.Metrics,
        options: Options | None = None,
    ) -> None:
        """Publish into ``published`` what ``client`` gives for this identity, and tell ``counted`` of it."""
        self._counted = counted
        self._client = client
        self._identity = identity
        self._published = published
        self._options = options or Options()
        self._held: Certificate | None = None
        self._life = self._alarm_at = math.inf
        self._mounted: frozenset[bytes] = frozenset()

    async def run(self) -> None:
        """Obtain, publish, wait, again; failures are logged and tried again with back-off."""
        failures = 0
        while True:
            self._counted.requests += 1
            try:
                certificate = await obtain(partial(self._client.sign, held=self._held), self._identity, self._kind)
                roots = self._roots(certificate.roots)
            except IdentityError as error:
                failures += 1
                self._counted.refused += 1
                delay = back_off(failures, _CHANCE.random(), self._life)
                _LOG.warning("no certificate yet (attempt %d, next in %.1f s): %s", failures, delay, error)
            else:
                failures = 0
                delay = self._take(certificate, roots)
            await self._wait(delay)

    @property
    def _kind(self) -> keys.KeyKind:
        return self._options.kind

    def _take(self, certificate: Certificate, roots: bytes) -> float:
        """Publish a new certificate; seconds until the next."""
        now = dt.datetime.now(dt.UTC)
        self._held = certificate
        self._client.roots.named = certificate.roots
        self._counted.expires = certificate.expires.timestamp()
        self._publish(roots, certificate)
        self._life = life = life_left(certificate, self._client.ttl, now)
        self._alarm_at = asyncio.get_running_loop().time() + life * (1 - ALARM)
        self._counted.alarm = False
        self._counted.ahead = skew(certificate, now)
        if abs(self._counted.ahead) > SKEW:
            _LOG.error("ALARM: the CA's clock and ours differ by %.0f s", self._counted.ahead)
        delay = rotation_delay(life, self._options, _CHANCE.random())
        _LOG.info("certificate until %s, next in %.0f s", certificate.expires, delay)
        return delay

    def _publish(self, roots: bytes, certificate: Certificate | None = None) -> None:
        made = [secrets.roots(names.RESOURCE_ROOT, roots)]
        if certificate is not None:
            made.append(secrets.certificate(names.RESOURCE_WORKLOAD, certificate.chain, certificate.key))
        self._published.publish(*made)
        output, held = self._options.output, self._held
        if output is not None and held is not None:
            output.write(held.key, held.chain, roots)

    async def _wait(self, delay: float) -> None:
        """Wait, with an eye on the mounted roots: one that is being rotated in is trusted long before half life.

        It is also a reason for a new certificate: with that one the CA is shown that its new root has come.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + delay
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, ROOTS_POLL_SECONDS))
            self._alarm(loop.time())
            if self._follow_roots():
                end = min(end, loop.time() + EARLY_SECONDS * _CHANCE.random())

    def _alarm(self, now: float) -> None:
        held = self._held
        if held is not None and now >= self._alarm_at:
            self._alarm_at = math.inf
            self._counted.alarm = True
            _LOG.error("ALARM: less than a quarter of the certificate's life is left; it ends at %s", held.expires)

    def _follow_roots(self) -> bool:
        """Publish the mounted roots if they changed; whether there are new ones among them."""
        published, held, before = self._published.get(names.RESOURCE_ROOT), self._held, self._mounted
        if published is None or held is None:
            return False
        try:
            roots = self._roots(held.roots)
        except IdentityError as error:
            _LOG.warning("keeping the roots known so far: %s", error)
            return False
        if secrets.roots(names.RESOURCE_ROOT, roots) == published:
            return False
        _LOG.info("the mounted roots changed")
        self._publish(roots)
        return bool(self._mounted - before)

    def _roots(self, named: bytes) -> bytes:
        """Roots to trust (PEM): those in the mounted file and those that the CA named."""
        path = self._client.roots.path
        try:
            mounted = _pems(path.read_bytes())
            found = dict.fromkeys((*mounted, *(_pems(named) if named else ())))
        except (*UNREADABLE, OSError) as error:
            raise IdentityError(f"cannot use the roots in {path}: {error}") from error
        self._mounted = frozenset(mounted)
        return b"".join(found)


def _pems(text: bytes) -> list[bytes]:
    return [each.public_bytes(serialization.Encoding.PEM) for each in x509.load_pem_x509_certificates(text)]

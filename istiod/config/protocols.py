"""Where siblings meet: what one part of the control plane needs of another, without importing it. app.py wires them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from wire.spiffe import Identity

Changed = Mapping[str, frozenset[str]]
"""Names that may differ from the target before, by type URL; a missing type has no change."""

OnTarget = Callable[[ResourceSet, Changed | None], None]
"""Told each new target of a proxy; None for the second argument means: anything may have changed."""


class RefusedError(Exception):
    """The proxy may not have configuration; the message says why."""


class Subscription(Protocol):
    """A proxy's place in the pipeline, from connect to disconnect."""

    def close(self) -> None:
        """Stop telling this proxy's session of targets."""
        ...


class Configuration(Protocol):
    """What the ADS server asks of the pipeline."""

    @property
    def ready(self) -> bool:
        """Whether every watched kind has been listed once; until then no stream may be answered."""
        ...

    def subscribe(self, proxy: Proxy, on_target: OnTarget) -> Subscription:
        """Give the proxy its target, now (before returning) and at each change, in the event loop's thread.

        Raises:
            RefusedError: the proxy is not what it claims to be.
        """
        ...


class TokenVerifier(Protocol):
    """Decides whose a service-account token is (features row O4)."""

    async def verify(self, token: str) -> Identity | None:
        """The identity that the token proves for audience ``istio-ca``, or None if it proves none."""
        ...

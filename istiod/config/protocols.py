"""Where siblings meet: what one part of the control plane needs of another, without importing it. app.py wires them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from istiod.config.kubernetes import Event, Raw, Resource
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.config.secret_rights import Users
from wire.spiffe import Identity

Changed = Mapping[str, frozenset[str]]
"""Names that may differ from the target before, by type URL; a missing type has no change."""

OnTarget = Callable[[ResourceSet, Changed | None], None]
"""Told each new target of a proxy; None for the second argument means: anything may have changed."""


class RefusedError(Exception):
    """The proxy may not have configuration; the message says why."""


class UnavailableError(Exception):
    """What has to be asked does not answer now; the message says what. The caller is to come again."""


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

    def knows(self, proxy: Proxy) -> bool:
        """Whether the proxy says that it is a pod of the mesh. That it may say so, ``subscribe`` judges."""
        ...

    def ahead(self, proxy: Proxy) -> Callable[[], Awaitable[object]] | None:
        """What has to be awaited before this proxy may subscribe, and ``ahead`` asked again; None: it may at once.

        What comes of it has to be held until then: it is what makes subscribing quick.
        """
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
        """The identity that the token proves for audience ``istio-ca``, or None if it proves none.

        Raises:
            UnavailableError: whoever knows cannot be asked now.
        """
        ...


class SecretRights(Protocol):
    """Decides which service accounts may have Secrets, and keeps the store told of it (hostile-input SEC63)."""

    def want(self, users: Users) -> None:
        """Know of these accounts from now on."""
        ...

    async def settled(self, patience: float) -> None:
        """Wait until each account has been asked about once, or so many seconds."""
        ...

    async def run(self) -> None:
        """Ask until cancelled."""
        ...


class Records(Protocol):
    """Small records by name that outlive the process, and that other replicas may write, too."""

    @property
    def items(self) -> Mapping[str, bytes]:
        """What is kept, as it is known by now."""
        ...

    async def load(self) -> None:
        """Read once what is kept, as far as that can be read now."""
        ...

    async def run(self, due: Callable[[], Mapping[str, bytes | None]]) -> None:
        """Write what ``due`` says, None is to be taken away, and follow what others write, until cancelled."""
        ...


class Stopper(Protocol):
    """A future's side that a watch needs: what ends it when set (``asyncio.Future``)."""

    def done(self) -> bool:
        """Whether the watch is to end."""
        ...

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call back when it is."""
        ...

    def remove_done_callback(self, callback: Callable[[Any], object], /) -> int:
        """Forget a callback."""
        ...


class ObjectApi(Protocol):
    """What the watch asks of a Kubernetes API."""

    def events(self, resource: Resource, stop: Stopper) -> AsyncGenerator[Event]:
        """One pass: the listing of a resource, ``Verb.LISTED``, then what happens until the watch breaks off.

        It ends quietly where the listing or the watch has to begin anew (a lost connection, 410), and when ``stop`` is
        set.

        Raises:
            ApiError: the API server refused or failed.
        """
        ...

    def heads(self, resource: Resource) -> AsyncGenerator[Raw]:
        """The objects of a resource as they are now, with nothing but their metadata.

        Raises:
            ApiError: the API server refused or failed.
        """
        ...

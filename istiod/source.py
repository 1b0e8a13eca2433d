"""Where objects, keys and proofs come from: what app needs of a folder of YAML, or of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from crds.diagnostic import Diagnostic, Position
from crds.key import ConfigKey
from istiod.ca.following import Proxies
from istiod.ca.signer import Signer
from istiod.config.protocols import Records, SecretRights, TokenVerifier
from istiod.config.store import ConfigStore
from istiod.supervision import Part
from wire.exposition import Family

Report = Callable[[tuple[Diagnostic, ...]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the rest of the process knows, for those parts of a source that tell users of it.

    ``version`` counts changes of ``findings``; ``ready`` is whether the mesh has been built; ``report`` takes what
    these parts find themselves, all of it each time.
    """

    ready: Callable[[], bool]
    findings: Callable[[], Sequence[Diagnostic]]
    version: Callable[[], int]
    serving: Callable[[ConfigKey], bool]
    report: Report
    proxies: Proxies = field(default_factory=lambda: Proxies(clients=tuple, hasten=lambda *_: None))
    """Who is connected by TLS."""
    addresses: Callable[[ConfigKey], Sequence[tuple[str, str]] | None] = lambda _: ()
    """Hosts and addresses that the mesh gave to an object's hosts; None while it does not know the object."""


class Source(Protocol):
    """One of the two worlds that a control plane can serve."""

    pods_known: bool
    """Whether every pod is known, so that a proxy that is none has no business here."""
    trust_domain: str
    """That of the CA; final once ``authority`` has answered."""

    async def authority(self) -> Signer:
        """The CA that all replicas share.

        Raises:
            SettingsError: it can never work as the settings are.
        """
        ...

    def verifier(self, store: ConfigStore) -> TokenVerifier:
        """Who judges tokens; to be asked after ``authority``. ``store`` knows which pods there are.

        Raises:
            SettingsError: there is nothing to judge them by.
        """
        ...

    def secret_rights(self, store: ConfigStore, report: Report) -> SecretRights | None:
        """Who says which accounts may have Secrets; None where there is nobody to ask, and all may."""
        ...

    def generation(self, key: ConfigKey) -> int:
        """The generation of an object of Istio's API as it was last seen; 0 where objects have none."""
        ...

    def records(self) -> Records | None:
        """Where is kept what proxies refuse; None where that is nowhere."""
        ...

    async def follow(self, store: ConfigStore, report: Report, ready: Callable[[], None]) -> None:
        """Keep the store current until cancelled; ``ready`` is called when all has been read once."""
        ...

    def position(self, key: ConfigKey, field: str) -> Position | None:
        """Where a field of an object stands in a file."""
        ...

    def waiting(self) -> Sequence[str]:
        """What the start still waits for, a line each."""
        ...

    def watches(self) -> Sequence[Mapping[str, Any]]:
        """How each kind is watched, for a debug page; nothing where no API is."""
        ...

    def counted(self) -> Iterable[Family]:
        """What it counts, for /metrics."""
        ...

    def age(self) -> float:
        """Seconds since what it reads from last answered; 0.0 where it answers, and before it was asked."""
        ...

    def untrusted(self) -> Sequence[str]:
        """Why clients that we cannot tell ourselves may not trust us yet, once ``parts`` run; a line each."""
        ...

    def names(self) -> tuple[str, ...]:
        """Names by which clients reach our TLS servers."""
        ...

    def parts(self, view: View) -> Sequence[Part]:
        """What else is to run, once ``authority`` has answered."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...

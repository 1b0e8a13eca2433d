"""One SDS stream as a state machine without I/O, state of the world and delta alike.

Envoy opens a stream per secret and rarely asks for more than one name, but the protocol allows it, and so does this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.sds.secrets import Secret

Lookup = Callable[[str], Secret | None]


@dataclass(slots=True, kw_only=True)
class Session:
    """What one stream wants and has.

    Attributes:
        wanted: Names subscribed.
        held: Version by name that the client was sent, whether it accepted it or not: a refused secret is not sent
            again until it changes.
        nonce: The last response's, as a number.
    """

    wanted: frozenset[str] = frozenset()
    held: dict[str, str] = field(default_factory=dict)
    nonce: int = 0

    def replace(self, names: Iterable[str], nonce: str) -> None:
        """A state-of-the-world request: exactly these names. An answer to an older response changes nothing."""
        if nonce and nonce != str(self.nonce):
            return
        self.wanted = frozenset(names)
        self.held = {name: version for name, version in self.held.items() if name in self.wanted}

    def change(self, subscribe: Iterable[str], unsubscribe: Iterable[str], initial: Mapping[str, str]) -> None:
        """A delta request. A name subscribed again is sent again; ``initial`` is what a reconnecting client holds."""
        added = frozenset(subscribe)
        self.held = {name: version for name, version in self.held.items() if name not in added} | dict(initial)
        self.wanted = (self.wanted | added) - frozenset(unsubscribe)
        self.held = {name: version for name, version in self.held.items() if name in self.wanted}

    def due(self, lookup: Lookup) -> tuple[Secret, ...]:
        """What must be sent now: wanted secrets that exist and whose version the client was not sent."""
        found = (lookup(name) for name in sorted(self.wanted))
        return tuple(secret for secret in found if secret and self.held.get(secret.name) != secret.version)

    def sent(self, secrets: Iterable[Secret]) -> str:
        """Record a response with these; gives its nonce."""
        self.held |= {secret.name: secret.version for secret in secrets}
        self.nonce += 1
        return str(self.nonce)

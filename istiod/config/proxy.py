"""Who asks for configuration: the authenticated peer and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from wire.node import Node
from wire.spiffe import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What the transport proved. ``identity`` is None only on the plaintext port (loopback, off by default)."""

    address: str
    identity: Identity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A connected proxy: proof and claims, checked against each other. Nothing is computed on it."""

    peer: Peer
    node: Node

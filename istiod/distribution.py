"""/debug/config_distribution: how far the newest version of an object came, for ``istioctl wait``.

One replica's view: whoever waits asks all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crds.key import ConfigKey
from crds.registry import KINDS
from istiod.ads.deliveries import Deliveries
from istiod.instruments import KEPT

_PARTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of an object here. ``pending``: something changed that no proxy has been told yet."""

    exists: bool
    generation: int
    pending: bool


def key_of(said: str) -> ConfigKey:
    """The object KIND/NAMESPACE/NAME, its kind as the API spells it.

    Raises:
        ValueError: it is none that proxies get anything of.
    """
    parts = said.split("/")
    found = [info for info in KINDS.values() if info.kind == parts[0] and info.group in KEPT]
    if len(parts) != _PARTS or not found:
        raise ValueError("name an object of Istio's API: ?resource=KIND/NAMESPACE/NAME")
    return ConfigKey(found[0].group, found[0].kind, parts[1], parts[2])


def shown(key: ConfigKey, seen: Seen, deliveries: Deliveries) -> Mapping[str, Any] | None:
    """How far it came; None where it is not there, and no proxy was told that it went."""
    if not (seen.exists or deliveries.known(key)):
        return None
    found = deliveries.of(key)
    return {
        "resource": f"{key.kind}/{key.namespace}/{key.name}",
        "exists": seen.exists,
        "generation": seen.generation,
        "pending": seen.pending,
        "proxies": found.proxies,
        "waiting": [{"proxy": name, "reason": reason} for name, reason in found.waiting],
    }

"""Which key sets the mesh wants fetched, and the name by which the fetched ones stand beside the objects.

The mesh says what it wants (istiod.mesh), istiod.jwks fetches it, the store keeps what came. Pure data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from crds.key import SECURITY, ConfigKey

CHANGED: Final = ConfigKey(SECURITY, "KeySet", "", "key-sets")
"""What the store says has changed when a key set has."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KeySource:
    """Where a key set is: at ``uri``, or, where that is "", at the place that the issuer's own page names.

    The page is OpenID Connect Discovery's: ``/.well-known/openid-configuration`` below the issuer, which is a URL.
    """

    uri: str
    issuer: str = ""

    def __str__(self) -> str:
        return self.uri or f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How long one fetch may take, and the rules that want it: object and field path."""

    timeout: timedelta
    places: tuple[tuple[ConfigKey, str], ...]


KeySets = Mapping[KeySource, str]
"""Fetched key sets, as ``crds.jwks.usable`` writes them."""

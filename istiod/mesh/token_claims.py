"""Conditions on the claims of a token, which VirtualServices write among those on headers (features row F20).

``@request.auth.claims.a.b`` and ``@request.auth.claims[a][b]`` are claim b of the object a. They look at no header,
since anybody can send one of any name: what stands for them is what the proxy has verified (Istio: jwt.ToRoutingClaim).
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "@request.auth.claims"
_BRACKETS: Final = re.compile(r"(?:\[[^\[\]]+\])+\Z")


def is_claim(name: str) -> bool:
    """Whether a condition of this name is on claims, or means to be."""
    return name.lower().startswith(PREFIX)


def path(name: str) -> tuple[str, ...]:
    """The names that lead to the claim; () where the condition can hold for no token, being written wrong."""
    rest = name[len(PREFIX) :]
    if rest.startswith("."):
        found = tuple(rest[1:].split("."))
        return found if all(found) else ()
    return tuple(rest[1:-1].split("][")) if _BRACKETS.match(rest) else ()

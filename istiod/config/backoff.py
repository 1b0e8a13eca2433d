"""How long a watch waits before it lists again. Pure: chance is an argument.

Faults FT1 and FT2: an API server that fails gets fewer and fewer listings (up to 30 s apart), one that asks for a pause
gets it, and one that cannot be reached is tried often, since it may come back at any moment.
"""

from __future__ import annotations

from typing import Final

from istiod.config.kubernetes import FORBIDDEN, NOT_FOUND, ApiError

LONGEST: Final = 30.0
UNREACHED: Final = 2.0
"""Longest wait, in seconds, for a server that cannot be reached, and for a start that waits for a CRD or a right."""
_FIRST: Final = 0.25


def delay(failures: int, error: ApiError | None, chance: float, *, started: bool) -> float:
    """Seconds until the next listing.

    Args:
        failures: passes that failed in a row, this one included.
        error: why; None where the connection was lost while listing, or the watch was too old to go on.
        chance: from 0 to 1, drawn anew each time: many watches must not list together.
        started: whether the kind has been listed before.
    """
    longest = LONGEST
    if error is None or not error.reached or (error.status in (NOT_FOUND, FORBIDDEN) and not started):
        longest = UNREACHED
    waited = min(longest, _FIRST * float(1 << min(failures - 1, 10)))
    return max(waited * (0.5 + chance / 2), error.retry_after if error is not None else 0.0)

"""How fast this machine is right now: two fixed loops, timed in CPU seconds in the same run as the figures.

Figures divided by the factor can be compared between machines and between a busy hour and a quiet one.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Final

_LOOPS: Final = 300_000
_BLOCK: Final = bytes(1 << 20)
_BLOCKS: Final = 64
_REFERENCE_LOOP: Final = 0.030
"""CPU seconds of the loop on the machine that is 1.0 by definition."""
_REFERENCE_HASH: Final = 0.035
"""CPU seconds of the hashing there."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """CPU seconds of a pure-Python loop and of SHA-256 over 64 MB."""

    loop: float
    hashing: float

    @property
    def factor(self) -> float:
        """How much slower than the reference this machine is; the interpreter counts three times, as it does here."""
        return (3 * self.loop / _REFERENCE_LOOP + self.hashing / _REFERENCE_HASH) / 4


def calibrate(rounds: int = 5) -> Calibration:
    """The best of some rounds."""
    return Calibration(
        loop=min(_timed_loop() for _ in range(rounds)), hashing=min(_timed_hash() for _ in range(rounds))
    )


def _timed_loop() -> float:
    start = time.process_time()
    seen: dict[int, int] = {}
    for i in range(_LOOPS):
        seen[i & 1023] = seen.get(i * 7 & 1023, i) ^ i
    return time.process_time() - start


def _timed_hash() -> float:
    start, digest = time.process_time(), hashlib.sha256()
    for _ in range(_BLOCKS):
        digest.update(_BLOCK)
    return time.process_time() - start

"""How long a container that ended waits before it starts again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays that double from ``base`` to ``cap`` seconds; a run of ``steady`` seconds forgives what was before.

    Kubernetes waits 10 s doubling to 5 minutes; a mesh on one machine is looked at by somebody who waits for it.
    """

    base: float = 1.0
    cap: float = 30.0
    steady: float = 60.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after that many ends in a row; the first restart is at once."""
        if failures <= 1:
            return 0.0
        return min(self.cap, self.base * 2.0 ** min(failures - 2, 16))

    def failures(self, before: int, ran: float) -> int:
        """How many ends in a row there are after a run of ``ran`` seconds."""
        return 1 if ran >= self.steady else before + 1

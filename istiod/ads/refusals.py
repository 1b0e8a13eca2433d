"""Streams that are refused: what the client is told, and what the operator is.

A client that is refused may come again at once, for ever, so the log has a few lines of many (hostile-input SEC24).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from istiod.ads import auth
from istiod.ads.connection import REFUSALS
from istiod.ads.quota import TooManyStreamsError
from istiod.config.protocols import RefusedError
from istiod.grpcserver.budget import Budget
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Stream

CODES: Final[Mapping[type[Exception], Code]] = REFUSALS | {
    auth.UnauthenticatedError: Code.UNAUTHENTICATED,
    auth.ClaimError: Code.PERMISSION_DENIED,
    RefusedError: Code.PERMISSION_DENIED,
    TooManyStreamsError: Code.RESOURCE_EXHAUSTED,
}
NOT_THAT_POD: Final = "this identity may not be the pod that the node claims to be"
"""What such a client is told, whatever the reason: it must not learn which pods there are (SEC80)."""
LINES: Final = 50
"""Lines of the log at once."""
RATE: Final = 1
"""Lines per second in the long run."""
_LOGGER = logging.getLogger(__name__)


class Refusals:
    """Those of one service; ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines = Budget(LINES, RATE, clock())
        self._unsaid = 0

    def told(self, stream: Stream, refusal: Exception) -> RpcError:
        """What the client is told; the operator sees it, too, or how many there were since the last line."""
        if isinstance(refusal, RpcError):
            code, reason = refusal.code, refusal.details
        else:
            code, reason = CODES[type(refusal)], str(refusal)[:500]
        said = NOT_THAT_POD if isinstance(refusal, RefusedError) else reason
        if self._lines.spend(self._clock()):
            more, self._unsaid = self._unsaid, 0
            since = f" ({more} more were refused since the last line)" if more else ""
            _LOGGER.warning("refused a stream of %s: %s%s", stream.client.address, reason, since)
        else:
            self._lines.earn(1)  # one that is not said costs nothing
            self._unsaid += 1
        return RpcError(code, said)

"""How many streams one identity may have at a time (hostile-input SEC24). Counts only; who it is was proved before.

An identity is a service account, and all pods of a Deployment share it: so pods that the mesh knows are counted each
for itself, and only what claims to be a pod that nobody knows shares one count. Istio has no such limit.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from istiod.config.proxy import Peer, Proxy


class TooManyStreamsError(Exception):
    """There are as many streams as there may be; the message says whose and how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Streams at a time.

    ``per_identity``: of one identity, those of pods that the mesh knows left out; and, from one address, those that
    have not said yet who they are. 0: no limit. ``per_pod``: an Envoy has one, and for moments another while it
    connects anew or a new process takes over from it.
    """

    per_identity: int = 16
    per_pod: int = 4


class Quota:
    """The streams of one server, by who has them. What ``enter`` and ``admit`` give has to be called at their end."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._taken: collections.Counter[Hashable] = collections.Counter()

    @property
    def taken(self) -> int:
        """How many places are held, for tests: 0 when no stream is left."""
        return self._taken.total()

    def enter(self, address: str, peer: Peer | None) -> Callable[[], None]:
        """Count a stream that has said nothing yet; ``peer`` None: nor has it been judged whose it is.

        Raises:
            TooManyStreamsError: its address has as many already.
        """
        if peer is not None and peer.identity is None:
            return _nothing
        identity = None if peer is None else peer.identity
        host = address.rpartition(":")[0]
        whose = f"{identity or 'unknown clients'} from {host} without a request"
        return self._take((identity, host), self._limits.per_identity, whose)

    def admit(self, proxy: Proxy, *, known: bool) -> Callable[[], None]:
        """Count the stream of a proxy; ``known``: it is a pod of the mesh. Plaintext, of this machine, is not counted.

        Raises:
            TooManyStreamsError: its pod or its identity has as many already.
        """
        identity, node = proxy.peer.identity, proxy.node
        if identity is None:
            return _nothing
        with contextlib.ExitStack() as held:
            pod = f"{node.namespace}/{node.name} of {identity}"
            held.callback(self._take((identity, node.namespace, node.name), self._limits.per_pod, pod))
            if not known:
                held.callback(self._take(identity, self._limits.per_identity, str(identity)))
            return held.pop_all().close

    def _take(self, key: Hashable, most: int, whose: str) -> Callable[[], None]:
        if most and self._taken[key] >= most:
            raise TooManyStreamsError(f"{whose[:400]}: {most} streams are open, more are not served")
        self._taken[key] += 1
        return lambda: self._give_back(key)

    def _give_back(self, key: Hashable) -> None:
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]


def _nothing() -> None:
    """Nothing was taken."""

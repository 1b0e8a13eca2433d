"""The whole flow on one page: gather changes, build the mesh, scope, compile, publish.

Leading-edge debounce: an idle pipeline pushes a few milliseconds after the first change; what comes while a push runs
is gathered into the next; between pushes the pipeline rests half as long as the last one took, so that a storm of
changes leaves time to send (DESIGN section 4), and so long that proxies are told at most ten times a second of what
changes without end (fault FT23). What is sent when is istiod.ads'.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod.config.protocols import Changed, OnTarget, RefusedError, Subscription
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy import patch_values
from istiod.envoy.compiler import Compiler
from istiod.mesh import claims, expected, sources
from istiod.mesh import context as mesh
from istiod.mesh.context import MeshContext
from wire import names

GATHER = 0.005
"""Seconds from the first change of a quiet time to its push."""
LONGEST_REST = 0.1
INTERVAL = 0.1
"""Seconds between pushes in the long run: endpoints may flap a hundred times a second for hours (fault FT23)."""
BURST = 3
"""Pushes that may follow each other sooner: what a person or a rollout changes goes out at once."""
MOST_EXPECTED = 100
"""Of so many namespaces configurations are made at the start; those of more are made when their proxies come."""
EXPECTED = 120.0
"""Seconds for which they are kept for proxies that do not come: longer than Envoy waits before it tries again."""


_Differences: TypeAlias = dict[tuple[int, int], Changed]
"""By the ids of two targets: those before all lived when the push began, those after live in the members."""
_SHOWN = 3
"""So many failures of one push are raised: most are of one scope, and equal."""


@dataclass(slots=True, eq=False)
class _Member:
    """A subscribed proxy and what it was last told."""

    proxy: Proxy
    on_target: OnTarget
    target: ResourceSet
    close: Callable[[], None]


class _Pace:
    """When the next push may be: ``BURST`` at once, then one in each ``INTERVAL`` (GCRA, ITU-T I.371). In seconds."""

    def __init__(self) -> None:
        self._earned = -math.inf

    def rest(self, started: float, now: float) -> float:
        """How long to rest after a push."""
        self._earned = max(self._earned, started) + INTERVAL
        return max(0.0, min((now - started) / 2, LONGEST_REST), self._earned - (BURST - 1) * INTERVAL - now)


class Pipeline:
    """Turns changes of the store into targets of proxies.

    ``report`` gets the mesh's findings after each build; ``clock`` is monotonic, in seconds. ``opened`` is False until
    the sources have listed everything once; nobody is served before, since an empty answer would empty the proxies.
    ``pods_known``: the source knows every pod there is, so a proxy has to be one of them.
    """

    def __init__(
        self,
        store: ConfigStore,
        report: Callable[[tuple[Diagnostic, ...]], None],
        clock: Callable[[], float],
        *,
        pods_known: bool = False,
    ) -> None:
        self._store = store
        self._report = report
        self._clock = clock
        self._pods_known = pods_known
        self._compiler = Compiler()
        self._context: MeshContext | None = None
        self._members: dict[int, _Member] = {}
        self._changed: set[ConfigKey] = set()
        self._wake = asyncio.Event()
        self._opened = False
        self._preparing = False
        self._expected: list[ResourceSet] = []
        store.listen(self.change)

    @property
    def ready(self) -> bool:
        """Whether the mesh has been built from complete listings, and what most proxies will ask for has been made."""
        return self._context is not None and not self._preparing

    @property
    def context(self) -> MeshContext | None:
        """The mesh as of the last push, for debug pages."""
        return self._context

    @property
    def pending(self) -> bool:
        """Whether something changed that no target holds yet."""
        return bool(self._changed)

    @property
    def compiled(self) -> Mapping[str, int]:
        """Generator calls so far, by type URL (and VIRTUAL_HOST), for tests and metrics."""
        return self._compiler.compiled

    def open(self) -> None:
        """All sources have listed: ``run`` builds, and follows changes from here on. A bug there is none of theirs."""
        self._opened = True
        if self._context is None:  # sources that start again say so again
            self._wake.set()

    def change(self, key: ConfigKey) -> None:
        """Note that an object came, changed or went."""
        self._changed.add(key)
        self._wake.set()

    async def run(self) -> None:
        """Push whenever something changed, until cancelled."""
        pace = _Pace()
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER)
            started = self._clock()
            if not self._opened:
                self._wake.clear()
            elif self._context is None:
                await self._start()
            else:
                self.push()
            await asyncio.sleep(pace.rest(started, self._clock()))

    async def _start(self) -> None:
        """The first push, and all that proxies will ask for at once as soon as they hear that we are there.

        A thousand of them come together then; what is made for the first would keep all others waiting.
        """
        self._preparing = True
        try:
            self.push()
            for proxy in itertools.islice(expected.proxies(self._built()), MOST_EXPECTED):
                target = self._target(proxy)
                for layer in target.layers[names.ENDPOINT]:  # made when they are first read
                    deque(map(layer.get, layer), maxlen=0)
                self._expected.append(target)
                await asyncio.sleep(0)
        finally:
            self._preparing = False
        asyncio.get_running_loop().call_later(EXPECTED, self._expected.clear)

    def push(self) -> None:
        """Build from the store as it is now and tell every proxy whose target changed.

        Raises:
            ExceptionGroup: targets of some proxies could not be made: a bug. They keep what they had, and all others
                have been told.
        """
        self._wake.clear()
        self._context = mesh.build(self._store.snapshot(), self._context, frozenset(self._changed))
        # Only now: a build that failed has to see these changes again.
        self._changed.clear()
        self._report((*self._context.diagnostics, *patch_values.findings(self._context.envoy_filters)))
        differences: _Differences = {}
        failed: list[Exception] = []
        for member in list(self._members.values()):
            try:
                self._tell(member, differences)
            except Exception as error:  # noqa: BLE001 (one proxy's must not keep the others from theirs; raised below)
                failed.append(error)
        if failed:
            raise ExceptionGroup(f"{len(failed)} of {len(self._members)} proxies keep their targets", failed[:_SHOWN])

    def _tell(self, member: _Member, differences: _Differences) -> None:
        before, after = member.target, self._target(member.proxy)
        if before is after:
            return
        pair = (id(before), id(after))
        changed = differences.get(pair)
        if changed is None:
            changed = differences[pair] = self._compiler.changed(before, after)
        member.target = after
        if changed:
            member.on_target(after, changed)

    def knows(self, proxy: Proxy) -> bool:
        """See istiod.config.protocols.Configuration."""
        return self._context is not None and claims.pod(self._context, proxy) is not None

    def subscribe(self, proxy: Proxy, on_target: OnTarget) -> Subscription:
        """See istiod.config.protocols.Configuration.

        Raises:
            RuntimeError: called before ``ready``.
            RefusedError: the proxy is not the pod that it claims to be.
        """
        if self._context is not None and (reason := claims.refusal(self._context, proxy, pods_known=self._pods_known)):
            raise RefusedError(reason)
        member = _Member(proxy, on_target, self._target(proxy), lambda: None)
        self._members[id(member)] = member
        member.close = lambda: self._leave(member)
        on_target(member.target, None)
        return member

    def target(self, proxy: Proxy) -> ResourceSet:
        """What a proxy should have now, for debug pages.

        Raises:
            RuntimeError: called before ``ready``.
        """
        return self._target(proxy)

    def addresses(self, key: ConfigKey) -> Sequence[tuple[str, str]] | None:
        """Hosts of an object and the addresses that the mesh gave them; None where it is not in the mesh yet."""
        return None if self._context is None else sources.given(self._context.sources, key)

    def _leave(self, member: _Member) -> None:
        self._members.pop(id(member), None)

    def _target(self, proxy: Proxy) -> ResourceSet:
        """What a proxy should have; proxies of a scope and view share it."""
        context = self._built()
        return self._compiler.compile(mesh.scope(context, proxy), context.endpoints, mesh.view(context, proxy))

    def _built(self) -> MeshContext:
        if self._context is None:
            raise RuntimeError("asked for a target before the sources have listed")
        return self._context

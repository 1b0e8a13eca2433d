"""The whole flow on one page: gather changes, build the mesh, scope, compile, publish.

Leading-edge debounce: an idle pipeline pushes a few milliseconds after the first change; what comes while a push runs
is gathered into the next; between pushes the pipeline rests half as long as the last one took, so that a storm of
changes leaves time to send (DESIGN section 4), and so long that proxies are told at most ten times a second of what
changes without end (fault FT23). What is sent when is istiod.ads'.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod import apart, push
from istiod.apart import Apart
from istiod.config.protocols import OnTarget, RefusedError, Subscription
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy.compiler import Compiler
from istiod.mesh import backends, claims, expected, sources
from istiod.mesh import context as mesh
from istiod.mesh.context import MeshContext
from istiod.pace import Again, Pace
from istiod.push import Made, Member, Push, Pushed, Watch
from wire import names

T = TypeVar("T")
GATHER = 0.005
"""Seconds from the first change of a quiet time to its push."""
MOST_EXPECTED = 100
"""Of so many namespaces configurations are made at the start; those of more are made when their proxies come."""
MOST_WORKLOADS = 2_000
"""Of so many workloads their own part is made at the start, too: a millisecond for each that differs from others."""
AHEAD = 3.0
"""Seconds for that at most: where there is little CPU, it is better to be there than to be prepared."""
EXPECTED = 120.0
"""Seconds for which they are kept for proxies that do not come: longer than Envoy waits before it tries again."""


QUICK = 0.01
"""Seconds that a push of endpoints may take on the loop; where one took longer, the next is made apart."""
FEW = 64
"""So many changes at most are made on the loop at once."""
_ENDPOINTS = frozenset((backends.SLICES, backends.PODS))
"""Kinds of which one change is small, whatever somebody writes: the API server limits them."""


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
        on_push: Callable[[Pushed], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._report = report
        self._clock = clock
        self._pods_known = pods_known
        self._on_push = on_push
        self._compiler = Compiler()
        self._context: MeshContext | None = None
        self._members: dict[int, Member] = {}
        self._changed: set[ConfigKey] = set()
        self._waits_since: float | None = None
        self._making_since: float | None = None
        self._last: Pushed | None = None
        self._since: float | None = None
        self._wake = asyncio.Event()
        self._opened = False
        self._preparing = False
        self._pushing = False
        self._quick = True
        self._apart = Apart("compiler")
        self._expected: list[ResourceSet] = []
        self._again = Again()
        self._timer: asyncio.TimerHandle | None = None
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
    def targets(self) -> tuple[tuple[Proxy, ResourceSet], ...]:
        """Who is subscribed, and what each was told last."""
        return tuple((member.proxy, member.target) for member in self._members.values())

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        """Who is subscribed."""
        return tuple(member.proxy for member in self._members.values())

    @property
    def pending(self) -> bool:
        """Whether something changed that no target holds yet."""
        return bool(self._changed) or self._pushing

    @property
    def waits_since(self) -> float | None:
        """The clock's time of the oldest change that no target holds yet; None where there is none."""
        return self._waits_since if self._making_since is None else self._making_since

    @property
    def since(self) -> float | None:
        """The clock's time of the oldest change that the present targets brought; None before the first."""
        return self._since

    @property
    def last(self) -> Pushed | None:
        """The newest push that is over."""
        return self._last

    @property
    def compiled(self) -> Mapping[str, int]:
        """Generator calls so far, by type URL (and VIRTUAL_HOST), for tests and metrics."""
        return self._compiler.compiled

    @property
    def kept(self) -> int:
        """Leaves whose resource is kept, for metrics."""
        return self._compiler.kept

    def open(self) -> None:
        """All sources have listed: ``run`` builds, and follows changes from here on. A bug there is none of theirs."""
        self._opened = True
        if self._context is None:  # sources that start again say so again
            self._wake.set()

    def change(self, key: ConfigKey) -> None:
        """Note that an object came, changed or went."""
        if self._waits_since is None:
            self._waits_since = self._clock()
        self._changed.add(key)
        self._wake.set()

    async def run(self) -> None:
        """Push whenever something changed, and after a while where something of a push failed, until cancelled."""
        pace = Pace()
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER)
            started = self._clock()
            if self._opened:
                await self._step()
            else:
                self._wake.clear()
            await asyncio.sleep(pace.rest(started, self._clock()))

    async def _step(self) -> None:
        try:
            whole = await (self._start() if self._context is None else self._push())
        except Exception:
            self._repeat(whole=False)
            raise
        self._repeat(whole=whole)

    def _repeat(self, *, whole: bool) -> None:
        """What failed is made again, although nothing changes: what kept it from being made may be over."""
        if self._timer is not None:
            self._timer.cancel()
        pause = self._again.after(whole=whole)
        self._timer = None if pause is None else asyncio.get_running_loop().call_later(pause, self._wake.set)

    async def _start(self) -> bool:
        """The first push, and all that proxies will ask for at once as soon as they hear that we are there.

        A thousand of them come together then; what is made for the first would keep all others waiting.
        """
        self._preparing = True
        try:
            whole = await self._push()
            async with self._apart.lock:
                self._expected = await self._apart.run(self._expect)
        finally:
            self._preparing = False
        asyncio.get_running_loop().call_later(EXPECTED, self._expected.clear)
        return whole

    def _expect(self) -> list[ResourceSet]:
        built = self._built()
        common = map(self._whole, itertools.islice(expected.proxies(built), MOST_EXPECTED))
        made, until = [*common], self._clock() + AHEAD
        for proxy in itertools.islice(expected.workloads(built), MOST_WORKLOADS):
            if self._clock() >= until:
                break
            made.append(self._target(proxy))
        return made

    def _whole(self, proxy: Proxy) -> ResourceSet:
        """What a proxy should have, with endpoints, which are made when they are first read."""
        found = self._target(proxy)
        for layer in found.layers[names.ENDPOINT]:
            deque(map(layer.get, layer), maxlen=0)
        return found

    async def _push(self) -> bool:
        """Push, made apart where that may take long; proxies are told in slices of the loop's time.

        Gives whether every proxy has what it should have.
        """
        self._pushing = True
        try:
            async with self._apart.lock:
                begun = self._begin()
                try:
                    made = await self._made(begun)
                except BaseException:
                    self._undo(begun)
                    raise
                self._take(begun, made)
            failed = list(made.failed)
            await apart.sliced(self._tell(made, failed), self._clock)
        finally:
            self._pushing = False
        self._over(begun, made, failed)
        return not failed

    def push(self) -> None:
        """Build from the store as it is now and tell every proxy whose target changed, before this returns.

        Raises:
            ExceptionGroup: targets of some proxies could not be made: a bug. They keep what they had, and all others
                have been told.
            RuntimeError: a push is being made apart.
        """
        if self._apart.busy:
            raise RuntimeError("a push is under way")
        begun = self._begin()
        try:
            made = begun.make()
        except BaseException:
            self._undo(begun)
            raise
        self._take(begun, made)
        failed = list(made.failed)
        deque(self._tell(made, failed), maxlen=0)
        self._over(begun, made, failed)
        if failed:
            raise push.failure(failed)

    def _begin(self) -> Push:
        """What is there now; what changes from here on is the next push's."""
        self._wake.clear()
        changed, self._changed = frozenset(self._changed), set()
        watch = Watch(self._clock)
        since, self._waits_since = self._waits_since, None
        self._making_since = watch.started if since is None else since
        return Push(
            watch=watch,
            since=self._making_since,
            compiler=self._compiler,
            snapshot=self._store.snapshot(),
            before=self._context,
            changed=changed,
            members=tuple(self._members.values()),
        )

    async def _made(self, begun: Push) -> Made:
        """Make it, apart where it may stop the loop for long: rules may be as large as an API server takes.

        A few endpoints go out at once, as long as that is quick.
        """
        small = len(begun.changed) <= FEW and all((key.group, key.kind) in _ENDPOINTS for key in begun.changed)
        started = self._clock()
        made = begun.make() if small and self._quick else await self._apart.run(begun.make)
        if small:
            self._quick = self._clock() - started <= QUICK
        return made

    def _undo(self, begun: Push) -> None:
        """A push failed: the next has to see its changes again."""
        self._changed |= begun.changed
        self._waits_since, self._making_since = begun.since, None

    def _take(self, begun: Push, made: Made) -> None:
        """From here on the mesh is the new one."""
        self._context = made.context
        self._since, self._making_since = begun.since, None
        begun.watch.lap("compile")
        self._report(made.findings)
        begun.watch.lap("report")

    def _tell(self, made: Made, failed: list[Exception]) -> Iterator[None]:
        for each in made.news:
            member = each.member
            if id(member) in self._members:  # it may leave meanwhile
                try:
                    if each.changed:
                        member.on_target(each.target, each.changed)
                    member.target = each.target
                except Exception as error:  # noqa: BLE001 (as above: all others are told)
                    failed.append(error)
            yield

    def _over(self, begun: Push, made: Made, failed: list[Exception]) -> None:
        told = tuple(each.member.proxy for each in made.news if each.changed)
        if told:
            begun.watch.lap("hand_over")
        self._last = begun.pushed(told, tuple(failed))
        self._on_push(self._last)

    def knows(self, proxy: Proxy) -> bool:
        """See istiod.config.protocols.Configuration."""
        return self._context is not None and claims.pod(self._context, proxy) is not None

    def subscribe(self, proxy: Proxy, on_target: OnTarget) -> Subscription:
        """See istiod.config.protocols.Configuration.

        Raises:
            RuntimeError: called before ``ready``, or where ``ahead`` has to be awaited.
            RefusedError: the proxy is not the pod that it claims to be.
        """
        if self._apart.busy:
            raise RuntimeError("a mesh is being built")
        if reason := self._refusal(proxy):
            raise RefusedError(reason)
        member = Member(proxy, on_target, self._target(proxy), self._leave)
        self._members[id(member)] = member
        on_target(member.target, None)
        return member

    def ahead(self, proxy: Proxy) -> Callable[[], Awaitable[object]] | None:
        """See istiod.config.protocols.Configuration."""
        if not self._apart.busy and (
            self._context is None or mesh.has_scope(self._context, proxy) or self._refusal(proxy)
        ):
            return None
        return partial(self._prepare, proxy)

    async def _prepare(self, proxy: Proxy) -> object:
        """What the proxy will get, if it is the first of its scope: that may be as long a piece of work as a push."""
        async with self._apart.lock:
            if mesh.has_scope(self._built(), proxy) or self._refusal(proxy):
                return None
            return await self._apart.run(partial(self._whole, proxy))

    def _refusal(self, proxy: Proxy) -> str:
        known = self._context
        return "" if known is None else claims.refusal(known, proxy, pods_known=self._pods_known)

    def target(self, proxy: Proxy) -> ResourceSet:
        """What a proxy should have now, for debug pages: what it was told last, if it is subscribed.

        Raises:
            RuntimeError: called before ``ready``, or, for one that is not subscribed, while a mesh is built.
        """
        for member in self._members.values():
            if member.proxy is proxy:
                return member.target
        if self._apart.busy:
            raise RuntimeError("a mesh is being built")
        return self._target(proxy)

    async def look(self, work: Callable[[MeshContext, tuple[Proxy, ...]], tuple[T, ...]]) -> tuple[T, ...]:
        """What ``work`` finds in the mesh and its connected proxies, apart; nothing where there is no mesh yet."""
        if self._context is None:
            return ()
        async with self._apart.lock:
            proxies = tuple(member.proxy for member in self._members.values())
            return await self._apart.run(partial(work, self._built(), proxies))

    def addresses(self, key: ConfigKey) -> Sequence[tuple[str, str]] | None:
        """Hosts of an object and the addresses that the mesh gave them; None where it is not in the mesh yet."""
        return None if self._context is None else sources.given(self._context.sources, key)

    def _leave(self, member: Member) -> None:
        self._members.pop(id(member), None)

    def _target(self, proxy: Proxy) -> ResourceSet:
        """What a proxy should have; proxies of a scope and view share it."""
        return push.target(self._compiler, self._built(), proxy)

    def _built(self) -> MeshContext:
        if self._context is None:
            raise RuntimeError("asked for a target before the sources have listed")
        return self._context

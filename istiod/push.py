"""One push without its shell: from a snapshot to what each proxy is to be told.

Reads what it is given, and changes the memory of compiler and mesh: only one may be made at a time, in whichever thread
(istiod.pipeline sees to it). When it is made and who is told when is the pipeline's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod.config.protocols import Changed, OnTarget
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigSnapshot
from istiod.envoy import extensions, patch_values
from istiod.envoy.compiler import Compiler
from istiod.mesh import context as mesh
from istiod.mesh.context import MeshContext

_Differences: TypeAlias = dict[tuple[int, int], Changed]
"""By the ids of two targets: those before all lived when the push began, and members keep them until they are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What one push was. Times are seconds, ``started`` and ``since`` those of the clock.

    Attributes:
        started: when it began.
        since: when the first of its changes came; ``started`` where there was none.
        changes: how many objects it took in.
        told: how many proxies got a new target.
        keys: the objects.
        proxies: those that got a new target.
        failed: bugs, each of one proxy's target, which stays as it was.
        stages: seconds by what was done: ``build`` the mesh, ``report`` findings, ``compile`` targets, ``diff`` them,
            ``hand_over`` to the streams. Of endpoints only what somebody reads is compiled: a part of that is in
            ``diff``, or in the making of the responses.
    """

    started: float
    since: float
    changes: int
    told: int
    stages: Mapping[str, float]
    keys: frozenset[ConfigKey] = frozenset()
    proxies: tuple[Proxy, ...] = ()
    failed: tuple[Exception, ...] = ()


class Watch:
    """Takes the times of one push; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.started = self._last = clock()
        self.stages: dict[str, float] = {}
        self._clock = clock

    def lap(self, stage: str) -> None:
        """What went since the last lap was this stage."""
        now = self._clock()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass(slots=True, eq=False)
class Member:
    """A subscribed proxy and what it was last told. ``leave`` is told when it hears no more.

    It holds nothing that holds it: what went would stay, with its target, until the collector looks (istiod.app).
    """

    proxy: Proxy
    on_target: OnTarget
    target: ResourceSet
    leave: Callable[[Member], None]

    def close(self) -> None:
        """See istiod.config.protocols.Subscription."""
        self.leave(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a member is to be told."""

    member: Member
    target: ResourceSet
    changed: Changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of a push. ``failed`` are bugs, each of one member's target."""

    context: MeshContext
    findings: tuple[Diagnostic, ...]
    news: tuple[News, ...]
    failed: tuple[Exception, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a push is made of: all objects, the mesh before, the keys that changed since, and who is to be told.

    ``watch`` takes its times, ``since`` is when the first of the changes came.
    """

    compiler: Compiler
    snapshot: ConfigSnapshot
    before: MeshContext | None
    changed: frozenset[ConfigKey]
    members: tuple[Member, ...]
    watch: Watch
    since: float

    def make(self) -> Made:
        """Build the mesh, and each member's target in it."""
        context = mesh.build(self.snapshot, self.before, self.changed)
        self.watch.lap("build")
        failed: list[Exception] = []
        news = tuple(self._news(context, failed))
        found = (*context.diagnostics, *_of_patches(context))
        return Made(context=context, findings=found, news=news, failed=tuple(failed))

    def _news(self, context: MeshContext, failed: list[Exception]) -> Iterator[News]:
        differences: _Differences = {}
        for member in self.members:
            try:
                after = target(self.compiler, context, member.proxy)
                changed = self._changed(differences, member.target, after)
            except Exception as error:  # noqa: BLE001 (one proxy's must not keep the others from theirs; raised later)
                failed.append(error)
            else:
                if after is not member.target:
                    yield News(member=member, target=after, changed=changed)

    def _changed(self, differences: _Differences, before: ResourceSet, after: ResourceSet) -> Changed:
        if before is after:
            return {}
        pair = (id(before), id(after))
        if pair not in differences:
            self.watch.lap("compile")
            differences[pair] = self.compiler.changed(before, after)
            self.watch.lap("diff")
        return differences[pair]

    def pushed(self, proxies: tuple[Proxy, ...], failed: tuple[Exception, ...]) -> Pushed:
        """What it was, when all have been told, these of which had something to hear."""
        watch = self.watch
        return Pushed(
            started=watch.started,
            since=self.since,
            changes=len(self.changed),
            told=len(proxies),
            stages=watch.stages,
            keys=self.changed,
            proxies=proxies,
            failed=failed,
        )


_SHOWN = 3
"""So many failures of one push are shown: most are of one scope, and equal."""


def failure(failed: Sequence[Exception]) -> ExceptionGroup[Exception]:
    """Bugs of a push as one."""
    return ExceptionGroup(f"{len(failed)} proxies keep their targets", failed[:_SHOWN])


def target(compiler: Compiler, context: MeshContext, proxy: Proxy) -> ResourceSet:
    """What a proxy should have; proxies of a scope and view share it."""
    return compiler.compile(mesh.scope(context, proxy), context.endpoints, mesh.view(context, proxy))


def _of_patches(context: MeshContext) -> tuple[Diagnostic, ...]:
    """What is wrong with EnvoyFilters; looked for when one of them changed, as most pushes are of endpoints."""
    patches = context.envoy_filters

    def made() -> tuple[Diagnostic, ...]:
        return (*patch_values.findings(patches), *extensions.findings(patches))

    return context.memo.recall.of("findings of patches", (patches,), made)

"""Istio's analyzers in a cluster (PILOT_ENABLE_ANALYSIS): watches what they read and runs them after changes.

What they find stands in ``status.validationMessages`` of Istio's objects; who writes it there is istiod.kube's. Objects
of other kinds have no such status, so kinds that only concern those (Deployments, CRDs, webhooks) are not watched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from crds.key import ConfigKey
from crds.text import UnreadableError
from istiod import apart
from istiod.analysis import analyzers, gateways, kinds, live, status
from istiod.analysis import resources as analysed
from istiod.analysis.kinds import Kind
from istiod.analysis.status import Said
from istiod.config.kubernetes import Raw, Resource
from istiod.config.protocols import ObjectApi
from istiod.kube.collection import Collection
from istiod.status.observed import records
from istiod.supervision import Part

_READ: Final = (*kinds.ISTIO, kinds.NAMESPACE, kinds.NODE, kinds.POD, kinds.SERVICE, kinds.SECRET, kinds.CONFIG_MAP)
_WITHOUT_STATUS: Final = ("apiVersion", "kind", "metadata", "spec", "type", "data")
_METADATA: Final = ("name", "namespace", "labels", "annotations", "generation")
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
GATHER: Final = 1.0
"""Seconds in which changes come together."""
REST: Final = 9.0
"""After each run it rests so many times as long as that took: a tenth of a core at most, whatever the mesh's size."""
PERIOD: Final = 2.0
"""Seconds after which it is looked again whether we lead."""
_LOGGER = logging.getLogger(__name__)


def kept(kind: Kind, raw: Raw) -> Raw:
    """What analyzers read of an object: never a key.

    Of a status only addresses: the rest is what we, or kubelets, write.
    """
    metadata = {name: raw["metadata"][name] for name in _METADATA if name in raw["metadata"]}
    if _APPLIED in (annotations := metadata.get("annotations") or {}):
        metadata["annotations"] = {name: said for name, said in annotations.items() if name != _APPLIED}
    found = {name: raw[name] for name in _WITHOUT_STATUS if name in raw} | {"metadata": metadata}
    addresses = records(raw.get("status"), "addresses") if kind == kinds.SERVICE_ENTRY else ()
    if kind == kinds.SECRET:
        found["data"] = gateways.without_keys(raw.get("data") or {})
    return {**found, "status": {"addresses": addresses}} if addresses else found


class _Leader(Protocol):
    """Of istiod.kube.lease.Leader."""

    @property
    def holds(self) -> bool:
        """Whether we may write."""
        ...


class AnalysisController:
    """What the analyzers say of each object, as long as one of ``leaders`` is us."""

    def __init__(self, api: ObjectApi, root_namespace: str, revision: str, leaders: Sequence[_Leader]) -> None:
        self._root_namespace = root_namespace
        self._revision = revision
        self._leaders = leaders
        self._changed = asyncio.Event()
        self._found: Mapping[ConfigKey, tuple[Said, ...]] | None = None
        self._waits: tuple[str, ...] = ()
        self._collections = {
            kind: Collection(api, self._resource(kind), partial(kept, kind), self._changed.set) for kind in _READ
        }
        self.followers: list[Callable[[], None]] = []
        """Called after each run that found something else than the one before."""
        self.version = 0
        """Counts results that differ."""

    @property
    def collections(self) -> tuple[Collection, ...]:
        """What is watched."""
        return tuple(self._collections.values())

    def parts(self) -> Iterator[Part]:
        """What has to run."""
        for kind, each in self._collections.items():
            yield f"watch of {kind.name}s to analyse", partial(self._follow, each)
        yield "analysis", self.run

    def said(self, key: ConfigKey) -> Sequence[Said] | None:
        """What the status of an object is to say; None as long as nothing is known: what it says may stay."""
        return None if self._found is None else self._found.get(key, ())

    async def run(self) -> None:
        """Analyse after changes until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER)
            if not self._due():
                self._found = None
                await asyncio.sleep(PERIOD)
                continue
            self._changed.clear()
            items = {kind: tuple(each.items.values()) for kind, each in self._collections.items()}
            began = loop.time()
            self._take(await apart.beside(partial(self._analyse, items)))
            await asyncio.sleep(REST * (loop.time() - began))

    @property
    def _leads(self) -> bool:
        return any(each.holds for each in self._leaders)

    async def _follow(self, collection: Collection) -> None:
        """Hold the objects while we lead: whoever does not has no use for them."""
        following: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                if self._leads and following is None:
                    following = tasks.create_task(collection.follow())
                elif following is not None and not self._leads:
                    following.cancel()
                    await asyncio.wait((following,))
                    following = None
                    collection.forget()
                await asyncio.sleep(PERIOD)

    def _due(self) -> bool:
        if not self._leads:
            return False
        waits = tuple(self._missing())
        if waits and waits != self._waits:
            _LOGGER.warning("analysis waits for %s", "; ".join(waits))
        self._waits = waits
        return not waits

    def _missing(self) -> Iterator[str]:
        """What is not known yet. A kind of Istio's without a CRD has no objects, as for the mesh (see WatchedKind)."""
        for kind, each in self._collections.items():
            if not each.listed and not (each.absent and kind in kinds.ISTIO):
                yield f"{kind.name}s: {each.problem}" if each.problem else f"{kind.name}s: being listed"

    def _take(self, found: Mapping[ConfigKey, tuple[Said, ...]]) -> None:
        if found != self._found:
            self._found = found
            self.version += 1
            for each in self.followers:
                each()

    def _analyse(self, items: Mapping[Kind, Sequence[Raw]]) -> dict[ConfigKey, tuple[Said, ...]]:
        made = (live.concerning(kind, item, self._revision) for kind, some in items.items() for item in some)
        found = [each for each in made if each is not None]
        _, texts = live.config_map(found, self._root_namespace, self._revision)
        mesh: Mapping[str, Any]
        networks: Mapping[str, Any]
        try:
            mesh, networks = live.settings(texts, self._root_namespace)
        except UnreadableError:  # the watch of the mesh reports it
            mesh, networks = {"rootNamespace": self._root_namespace}, {}
        known = analysed.Collection(found, mesh=mesh, networks=networks, now=datetime.now(UTC))
        return status.by_object(analyzers.run(analyzers.usual(), known))

    def _resource(self, kind: Kind) -> Resource:
        version, _, plural = kinds.SERVED[kind].partition("/")
        own = kind == kinds.CONFIG_MAP
        return Resource(
            group=kind.group,
            version=version,
            plural=plural,
            kind=kind.name,
            namespaced=kind not in kinds.CLUSTER_SCOPED,
            namespace=self._root_namespace if own else "",
            fields=live.SECRETS if kind == kinds.SECRET else "",
        )

"""Which classes of proxies an EnvoyFilter is tried on: of those that it is for, few that differ most. Pure.

Of each kind of proxy in each namespace one comes before a second does. A mesh that has no proxy for an object yet has
one made up, with a service of each protocol to be called and a server of each (istiod.gate.stage).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from crds.envoy_filter import EnvoyFilter
from istiod.config.proxy import Proxy
from istiod.envoy.trial import Trial
from istiod.explain import workloads
from istiod.mesh import context as mesh
from istiod.mesh import reports
from istiod.mesh.context import MeshContext
from istiod.mesh.envoy_filters import EnvoyFilterIndex, PatchSet
from istiod.mesh.memo import Memo
from istiod.mesh.recall import Recall
from istiod.mesh.scope import Scope
from wire.node import NodeType

MOST: Final = 12
"""Classes of proxies that one object is tried on."""
_MOST_ABSENT: Final = 4
"""Of pods that are not connected, whose scopes may have to be made for this."""
_MOST_LOOKED: Final = 2_000
"""Proxies that are looked at for one object, each some 0.1 ms: nobody changes the mesh meanwhile."""
_NOTHING: Final = PatchSet(patches=())


def trials(context: MeshContext, proxies: Iterable[Proxy], item: EnvoyFilter) -> tuple[Trial, ...]:
    """What to try an object on: connected proxies, else pods that the mesh knows."""
    made = _Trials(context, item)
    found = tuple(itertools.islice(made.of(proxies), MOST))
    return found or tuple(itertools.islice(made.of(_pods(context, item)), _MOST_ABSENT))


def _pods(context: MeshContext, item: EnvoyFilter) -> Iterator[Proxy]:
    """The proxies of pods that an object may be for."""
    root, space = context.envoy_filters.root_namespace or context.model.settings.root_namespace, item.key.namespace
    for _, pod in sorted(context.backends.pods.items()):
        if pod.addresses and space in (root, pod.namespace) and (pod.tls or workloads.is_router(context, pod)):
            yield workloads.proxy(context, pod)


class _Trials:
    """Tries one object in one mesh."""

    def __init__(self, context: MeshContext, item: EnvoyFilter) -> None:
        self._context = context
        self._space = item.key.namespace
        root = context.model.settings.root_namespace
        base = EnvoyFilterIndex(root_namespace=root, by_namespace=context.envoy_filters.by_namespace)
        self._without = base.without(item.key)
        self._whole = self._without.adding(item)
        self._alone = EnvoyFilterIndex(root_namespace=root).adding(item)
        self._patched = replace(
            context, envoy_filters=self._whole, memo=Memo()
        )  # remembered by proxy: apart from what they have
        self._selector = next(self._alone.all()).selector
        self._recall = Recall()

    def of(self, proxies: Iterable[Proxy]) -> Iterator[Trial]:
        """One per class, those of different kinds and namespaces first."""
        groups: dict[object, list[Proxy]] = {}
        for proxy in proxies:
            if self._space in (self._whole.root_namespace, proxy.node.namespace):
                groups.setdefault((proxy.node.type, proxy.node.namespace), []).append(proxy)
        seen: set[tuple[int, int, int]] = set()
        ranks = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
        for proxy in itertools.islice((each for each in ranks if each is not None), _MOST_LOOKED):
            if (found := self._trial(proxy)) is None:
                continue
            inbound = found.scope.inbound
            key = (id(found.scope.outbound), id(inbound and inbound.listeners), id(found.whole))
            if key not in seen:
                seen.add(key)
                yield found

    def _trial(self, proxy: Proxy) -> Trial | None:
        node, context = proxy.node, self._context
        pod = context.backends.pods.get((node.namespace, node.name))
        labels = reports.placed(context.model, node, pod, self._recall).labels
        if not self._selector <= labels:
            return None
        choices = (each.choose(node, node.namespace, labels, self._recall) for each in self._indexes())
        without, whole, alone = choices
        if alone is None or whole is None:
            return None
        return Trial(scope=self._scope(proxy, whole), without=without or _NOTHING, whole=whole, alone=alone)

    def _scope(self, proxy: Proxy, whole: PatchSet) -> Scope:
        """What a proxy has, and, of a gateway, the clusters that it will have because the object names them."""
        found = mesh.scope(self._context, proxy)
        if proxy.node.type is not NodeType.ROUTER or found.outbound.clusters.keys() >= set(whole.clusters):
            return found
        return mesh.scope(self._patched, proxy)

    def _indexes(self) -> Iterator[EnvoyFilterIndex]:
        yield from (self._without, self._whole, self._alone)

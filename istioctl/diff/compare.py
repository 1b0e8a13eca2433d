"""Two meshes, proxy by proxy: those of equal effect together, with the objects behind and the connections it costs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from envoy.config.listener.v3 import listener_pb2

from crds.key import ConfigKey
from crds.meta import Object
from istioctl.diff import facts
from istioctl.diff.facts import Facts, Title
from istioctl.offline.world import Workload, World
from istiod.config.resource import Resource, ResourceSet
from istiod.explain import held
from istiod.explain.held import Held
from wire import names

_TYPES: Final = (
    *(names.LISTENER, names.ROUTE, names.CLUSTER, names.ENDPOINT, names.SECRET, names.EXTENSION, names.BOOTSTRAP),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One fact before and after. ``lines`` begin with + or -, in order."""

    title: str
    lines: tuple[str, ...]
    technical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Proxies for which the same changes. ``cost`` says which connections end."""

    proxies: tuple[str, ...]
    changes: tuple[Change, ...]
    cost: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a change of YAML would do."""

    objects: tuple[tuple[str, ConfigKey], ...]
    groups: tuple[Group, ...]
    proxies: int
    findings: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether any proxy would do something else, or somebody would be told something new."""
        return bool(self.groups or self.findings)

    @property
    def touched(self) -> int:
        """For how many proxies something changes."""
        return sum(len(group.proxies) for group in self.groups)


def compare(before: World, after: World) -> Report:
    """What differs between two meshes."""
    old = {one.name: one for one in before.workloads() if one.proxied}
    new = {one.name: one for one in after.workloads() if one.proxied}
    by_effect: dict[tuple[tuple[Change, ...], tuple[str, ...]], list[str]] = {}
    for name in sorted(old.keys() | new.keys()):
        effect = _effect(before, old.get(name), after, new.get(name))
        if effect[0]:
            by_effect.setdefault(effect, []).append(name)
    groups = [Group(proxies=tuple(proxies), changes=found, cost=cost) for (found, cost), proxies in by_effect.items()]
    known = {(one.code, one.key, one.field, one.message) for one in before.findings}
    fresh = tuple(str(one) for one in after.findings if (one.code, one.key, one.field, one.message) not in known)
    return Report(
        objects=tuple(_objects(before, after)),
        groups=tuple(sorted(groups, key=lambda group: (-len(group.proxies), group.proxies))),
        proxies=len(old.keys() | new.keys()),
        findings=fresh,
    )


def _effect(
    before: World, old: Workload | None, after: World, new: Workload | None
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    if old is None or new is None:
        word = "+ is new" if old is None else "- is gone"
        return (Change(title="proxy", lines=(word,)),), ()
    one, other = before.resources(old), after.resources(new)
    if _versions(one) == _versions(other):
        return (), ()
    was, now = held.of_resources(one), held.of_resources(other)
    found = tuple(changes(facts.of(was), facts.of(now)))
    return found, tuple(_cost(was, now)) if found else ()


def _versions(found: ResourceSet) -> Mapping[tuple[str, str], str]:
    every: Iterator[Resource] = (each for type_url in _TYPES for each in found.of(type_url))
    return {(each.type_url, each.name): each.version for each in every}


def _ranked(own: Facts, other: Facts) -> Facts:
    """Facts under the titles that they have on the other side too: what leads nowhere now led somewhere before."""
    least: dict[str, Title] = {}
    for title in (*own, *other):
        least[title.text] = min(title, least.get(title.text, title))
    found: dict[Title, tuple[str, ...]] = {}
    for title, said in sorted(own.items(), key=lambda one: one[0].rank):
        ranked = least[title.text]
        found[ranked] = (*found.get(ranked, ()), *said)  # of two under one title both are told
    return found


def changes(was: Facts, now: Facts) -> Iterator[Change]:
    """What differs between the facts of a proxy before and after."""
    was, now = _ranked(was, now), _ranked(now, was)
    both = {title.text for title in was} & {title.text for title in now}
    for title in sorted(was.keys() | now.keys(), key=lambda one: (one.rank, one.text)):
        if title.part_of and title.part_of.text not in both:
            continue  # said with the whole that it is a part of
        old, new = was.get(title), now.get(title)
        if old is None or new is None:
            lines = () if title.brief else tuple(_lines(old or (), new or ()))
            word = "+ is new" if old is None else "- is gone"
            yield Change(title=title.text, lines=lines or (word,), technical=title.technical)
        elif old != new:
            yield Change(title=title.text, lines=tuple(_lines(old, new)), technical=title.technical)


def _lines(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    for line in difflib.ndiff(old, new):
        if line.startswith(("+ ", "- ")):
            yield line


def _cost(was: Held, now: Held) -> Iterator[str]:
    """Connections that end: of listeners and filter chains that drain, and pools of clusters that are made anew."""
    old, new = ({one.name: one for one in held_.listeners} for held_ in (was, now))
    for name in sorted(old):
        if name not in new:
            yield f"listener {name} drains: it goes"
        elif old[name] != new[name]:
            chains = _drained(old[name], new[name])
            yield f"listener {name}: {chains} drain" if chains else f"listener {name} drains"
    pools = sorted(
        facts.place(name)
        for name, cluster in was.clusters.items()
        if name not in now.clusters or now.clusters[name] != cluster
    )
    if pools:
        yield f"connections to {', '.join(pools)} are made anew"


def _drained(old: listener_pb2.Listener, new: listener_pb2.Listener) -> str:
    """The filter chains that change; "" where more of the listener does (Envoy then drains all of it)."""
    outer = []
    for one in (old, new):
        copy = type(one)()
        copy.CopyFrom(one)
        del copy.filter_chains[:]
        copy.ClearField("default_filter_chain")
        outer.append(copy)
    if outer[0] != outer[1]:
        return ""
    kept = [one.SerializeToString(deterministic=True) for one in new.filter_chains]
    gone = [one.name for one in old.filter_chains if one.SerializeToString(deterministic=True) not in kept]
    if old.default_filter_chain != new.default_filter_chain:
        gone.append("the default chain")
    return f"{len(gone)} of {len(old.filter_chains)} filter chains" if gone else "no filter chains"


def _objects(before: World, after: World) -> Iterator[tuple[str, ConfigKey]]:
    """Objects of the files that are new, changed or gone; what was imagined follows from them."""
    old, new = _by_key(before), _by_key(after)
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            yield "new", key
        elif key not in new:
            yield "gone", key
        elif old[key] != new[key]:
            yield "changed", key


def _by_key(world: World) -> Mapping[ConfigKey, Object]:
    return {item.key: item for item in world.snapshot if world.files.position(item.key) is not None}

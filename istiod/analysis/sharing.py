"""Objects of one kind that hold for the same pods, or without a selector for the same namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from istiod.analysis import catalogue, message, selectors
from istiod.analysis.kinds import Kind
from istiod.analysis.message import Message, MessageType
from istiod.analysis.resources import Collection, Resource, Steps

Selector = Callable[[Resource], Mapping[str, str]]


def selected(
    known: Collection, kind: Kind, selector: Selector
) -> tuple[dict[Resource, list[Resource]], list[Resource]]:
    """Objects by the pods that they select, and the objects that select none."""
    by_pod: dict[Resource, list[Resource]] = {}
    idle = []
    for each in known.of(kind):
        wanted = selector(each)
        pods = known.pods(wanted, each.namespace) if wanted else []
        for pod in pods:
            by_pod.setdefault(pod, []).append(each)
        if wanted and not pods:
            idle.append(each)
    return by_pod, idle


def idle(some: list[Resource], selector: Selector, before: Steps) -> Iterator[Message]:
    """Selectors that match no pod."""
    for each in some:
        wanted = selector(each)
        at = selectors.first(wanted, *before)
        yield message.make(catalogue.NOT_FOUND, each, "selector", selectors.written(wanted), at=at)


def conflicts(by_pod: Mapping[Resource, list[Resource]], kind: MessageType) -> Iterator[Message]:
    """Several objects that select one pod."""
    for pod, some in by_pod.items():
        names = sorted(each.name for each in some)
        for each in some if len(some) > 1 else ():
            yield message.make(kind, each, names, pod.namespace, pod.name, at=("metadata", "name"))


def by_namespace(some: list[Resource]) -> dict[str, list[Resource]]:
    """Objects by namespace."""
    found: dict[str, list[Resource]] = {}
    for each in some:
        found.setdefault(each.namespace, []).append(each)
    return found


def defaults(namespace: str, some: list[Resource], kind: MessageType) -> Iterator[Message]:
    """Several objects of a namespace that hold for all its pods."""
    names = sorted(each.name for each in some)
    for each in some if len(some) > 1 else ():
        yield message.make(kind, each, names, namespace)

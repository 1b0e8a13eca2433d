"""Of which pods a report has the proxies: ``--include`` and ``--exclude``, written as for Istio's command. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from istioctl.errors import CommandError

USUALLY_NOT: Final = ("kube-system,kube-public,kube-node-lease,local-path-storage",)
"""What is excluded where nothing is said."""
_PARTS: Final = 6
_REPLICA_SET: Final = "ReplicaSet"
_HASH: Final = "pod-template-hash"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All of its parts have to fit, of each part one; an empty part fits everything."""

    namespaces: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    containers: tuple[str, ...] = ()

    def fits(self, pod: Json, container: str) -> bool:
        """Whether a pod's container is meant."""
        metadata = pod["metadata"]
        return (
            _any(self.namespaces, metadata.get("namespace", ""))
            and _any(self.deployments, deployment(pod))
            and _any(self.pods, metadata["name"])
            and _has(self.labels, metadata.get("labels") or {})
            and _has(self.annotations, metadata.get("annotations") or {})
            and _any(self.containers, container)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What some spec includes, and none excludes; without a spec everything is included."""

    include: Sequence[Spec] = ()
    exclude: Sequence[Spec] = ()

    def takes(self, pod: Json, container: str) -> bool:
        """Whether a pod's container belongs into the report."""
        included = not self.include or any(each.fits(pod, container) for each in self.include)
        return included and not any(each.fits(pod, container) for each in self.exclude)

    def namespace(self, name: str) -> bool:
        """Whether anything of a namespace may belong into it."""
        whole = [each for each in self.exclude if each == Spec(namespaces=each.namespaces)]
        included = not self.include or any(_any(each.namespaces, name) for each in self.include)
        return included and not any(_any(each.namespaces, name) for each in whole)


def parsed(texts: Iterable[str]) -> tuple[Spec, ...]:
    """Specs ``NAMESPACES/DEPLOYMENTS/PODS/LABELS/ANNOTATIONS/CONTAINERS``; each part is a list, and may be left out.

    Raises:
        CommandError: one is no such thing.
    """
    return tuple(_spec(each) for each in texts if each.strip())


def _spec(text: str) -> Spec:
    parts = text.split("/")
    if len(parts) > _PARTS:
        form = "NAMESPACES/DEPLOYMENTS/PODS/LABELS/ANNOTATIONS/CONTAINERS"
        raise CommandError(f"{text!r} has more parts than {form}")
    namespaces, deployments, pods, labels, annotations, containers = (*parts, *[""] * (_PARTS - len(parts)))
    return Spec(
        namespaces=_list(namespaces),
        deployments=_list(deployments),
        pods=_list(pods),
        labels=tuple(_pairs(text, labels)),
        annotations=tuple(_pairs(text, annotations)),
        containers=_list(containers),
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _pairs(spec: str, text: str) -> Iterator[tuple[str, str]]:
    for each in _list(text):
        key, sign, value = each.partition("=")
        if not (key and sign):
            raise CommandError(f"{spec!r}: {each!r} is no KEY=VALUE")
        yield key, value


def _any(wanted: tuple[str, ...], name: str) -> bool:
    return not wanted or any(fnmatch.fnmatchcase(name, each) for each in wanted)


def _has(wanted: tuple[tuple[str, str], ...], held: Mapping[str, str]) -> bool:
    return not wanted or any(key in held and fnmatch.fnmatchcase(held[key], value) for key, value in wanted)


def deployment(pod: Json) -> str:
    """The Deployment that a pod belongs to, by the name of its ReplicaSet; "" of others."""
    metadata = pod["metadata"]
    sets = [each["name"] for each in metadata.get("ownerReferences") or () if each.get("kind") == _REPLICA_SET]
    suffix = (metadata.get("labels") or {}).get(_HASH, "")
    return str(sets[0]).removesuffix(f"-{suffix}") if sets else ""

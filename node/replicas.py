"""Deployments: which pods to make and which to remove next. Pure; the answer is asked for again after each change.

It plays the Deployment and ReplicaSet controllers of Kubernetes: RollingUpdate keeps enough ready pods while it
replaces them, Recreate does not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.objects import Raw, copied, key_of

# Kubernetes' alphabet for generated names: no vowels, so that no words come out.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A pod that exists: its name, the template that it was made from, and how it is. ``order`` rises with age."""

    name: str
    template: str
    ready: bool
    order: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How a Deployment replaces pods: how many may be too many, how many may be missing."""

    surge: int
    unavailable: int
    recreate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now: make that many pods of the current template, remove those by name."""

    create: int = 0
    remove: tuple[str, ...] = ()


def safe(digest: str, length: int) -> str:
    """A digest in Kubernetes' alphabet for names."""
    number, out = int(digest, 16), ""
    while len(out) < length:
        number, rest = divmod(number, len(ALPHABET))
        out += ALPHABET[rest]
    return out


def template_hash(deployment: Mapping[str, Any]) -> str:
    """The pod-template-hash of a Deployment: changes exactly when its template does."""
    template = json.dumps((deployment.get("spec") or {}).get("template") or {}, sort_keys=True, default=str)
    return safe(hashlib.sha256(template.encode()).hexdigest(), 9)


def _share(value: object, of: int, *, up: bool) -> int:
    """An absolute number, or a percentage of the replicas, rounded as Kubernetes does."""
    text = str(value)
    if text.endswith("%"):
        exact = int(text[:-1]) * of / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(text)


def strategy_of(deployment: Mapping[str, Any]) -> Strategy:
    """The strategy of a Deployment, with Kubernetes' defaults of 25 %."""
    spec = deployment.get("spec") or {}
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    replicas = replicas_of(deployment)
    rolling = {name: value for name, value in rolling.items() if value is not None}  # as if it were not there
    surge = _share(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Strategy(surge=surge, unavailable=unavailable, recreate=strategy.get("type") == "Recreate")


def replicas_of(deployment: Mapping[str, Any]) -> int:
    """How many pods a Deployment asks for."""
    replicas = (deployment.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def _removable(old: Sequence[Replica], ready: int, least: int) -> tuple[str, ...]:
    """Old pods that may go: all that are not ready, and ready ones while ``least`` ready pods remain."""
    gone = [r.name for r in old if not r.ready]
    spare = max(0, ready - least)
    return (*gone, *[r.name for r in sorted(old, key=lambda r: r.order) if r.ready][:spare])


def plan(wanted: int, template: str, strategy: Strategy, alive: Sequence[Replica]) -> Plan:
    """The next step from ``alive`` (pods not yet being removed) towards ``wanted`` pods of ``template``."""
    new = [r for r in alive if r.template == template]
    old = [r for r in alive if r.template != template]
    if len(new) > wanted:
        worst = sorted(new, key=lambda r: (r.ready, -r.order))
        return Plan(remove=tuple(r.name for r in worst[: len(new) - wanted]))
    if strategy.recreate and old:
        return Plan(remove=tuple(r.name for r in old))
    remove = _removable(old, sum(r.ready for r in alive), wanted - strategy.unavailable)
    room = wanted + strategy.surge - (len(alive) - len(remove))
    return Plan(create=max(0, min(wanted - len(new), room)), remove=remove)


def pod_of(deployment: Raw, name: str) -> Raw:
    """The pod that a Deployment's template makes, owned by its ReplicaSet."""
    key, chosen = key_of(deployment), template_hash(deployment)
    template = copied((deployment.get("spec") or {}).get("template") or {})
    meta = template.get("metadata") or {}
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{key.name}-{chosen}",
        "uid": f"{key.namespace}-{key.name}-{chosen}",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        **meta,
        "name": name,
        "generateName": f"{key.name}-{chosen}-",
        "namespace": key.namespace,
        "labels": {**(meta.get("labels") or {}), "pod-template-hash": chosen},
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}

"""Objects that nobody should write, for an API server that stores whatever it is given.

One half are values that no check should let by, drawn from those that Envoy is tried with; in the other half a part of
the object is of another type altogether. A seed gives the same ones each time.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any, Final

import yaml

from tests.envoy.test_hostile_objects import OBJECTS, steps, variants

LARGE: Final = 1_400_000
"""Bytes of an object that an API server just stores (etcd takes 1.5 MiB)."""
_OTHER: Final = (None, [], {}, "", "x", -1, 2**63, 0.5, True, [[]], [None], {"": {}}, "\x00", [{}] * 50)
_NESTED: Final = 60  # levels; an API server takes some hundred
_API: Final = "networking.istio.io/v1"


def generated(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` objects, named ``poison-0`` and so on. What they say holds in their own namespace."""
    documents = list(yaml.safe_load_all(OBJECTS))
    chance = random.Random(seed)
    odd = [changed for one in documents for _, value, changed in variants(one) if _writable(value)]
    chosen = chance.sample(odd, count // 2)
    chosen += [_retyped(chance.choice(documents), chance) for _ in range(count - count // 2)]
    for number, one in enumerate(chosen):
        yield _named(one["kind"], f"poison-{number}", one["spec"])


def large() -> Iterator[dict[str, Any]]:
    """One object of 1.4 MB per way to be large: many parts, or one long one."""
    to = {"destination": {"host": "web"}}
    routes = [{"match": [{"uri": {"exact": f"/{number:06}"}}], "route": [to]} for number in range(15_500)]
    yield _named("VirtualService", "many-routes", {"hosts": ["large.example"], "http": routes})
    subsets = [{"name": f"v{number}", "labels": {"version": f"v{number}"}} for number in range(28_000)]
    yield _named("DestinationRule", "many-subsets", {"host": "web", "subsets": subsets})
    hosts = [f"{number:06}.large.example" for number in range(57_000)]
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    yield _named("ServiceEntry", "many-hosts", {"hosts": hosts, "ports": ports, "resolution": "NONE"})
    match = [{"uri": {"regex": "(a*)*" * (LARGE // 5 - 100)}}]
    yield _named("VirtualService", "long-text", {"hosts": ["text.example"], "http": [{"match": match, "route": [to]}]})


def _named(kind: str, name: str, spec: Any) -> dict[str, Any]:
    if isinstance(spec, dict) and kind != "Gateway":
        spec = {**spec, "exportTo": ["."]}
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _retyped(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The document with one part of it, small or large, of another type."""
    changed = copy.deepcopy(document)
    place, _ = chance.choice(list(steps(changed["spec"], ("spec",))))
    place = place[: chance.randint(1, len(place))]
    parent: Any = changed
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = chance.choice((*_OTHER, _nested()))
    return changed


def _nested() -> Any:
    found: Any = {}
    for _ in range(_NESTED):
        found = {"a": found}
    return found


def _writable(value: object) -> bool:
    """Whether JSON has it."""
    return not (isinstance(value, float) and not math.isfinite(value))

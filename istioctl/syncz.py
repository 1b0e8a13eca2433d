"""What each replica of istiod says of its proxies at /debug/syncz, as one list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from istioctl import reach
from istioctl.errors import CommandError

PATH: Final = "/debug/syncz"
USUAL: Final = ("CDS", "LDS", "EDS", "RDS")
"""Types that every proxy may ask for, in the order of istioctl's columns; others follow where somebody asks."""
_TYPES: Final = {
    "Cluster": "CDS",
    "Listener": "LDS",
    "ClusterLoadAssignment": "EDS",
    "RouteConfiguration": "RDS",
    "Secret": "SDS",
    "TypedExtensionConfig": "ECDS",
    "NameTable": "NDS",
}
_ABSENT: Final = "IGNORED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """One proxy's state. ``types`` are by their short name, such as CDS; ``errors`` are what it said of refusals."""

    name: str
    cluster: str
    istiod: str
    version: str
    types: Mapping[str, str]
    errors: Mapping[str, str]
    envoy: str = ""
    """The version of its Envoy."""
    lacks: tuple[str, ...] = ()
    """What it does without, since its Envoy is older."""

    def of(self, kind: str) -> str:
        """SYNCED, NOT SENT, STALE, PENDING; IGNORED for what it never asked for."""
        return self.types.get(kind, _ABSENT)


def fetch(planes: Sequence[reach.Address]) -> tuple[list[Synced], list[str]]:
    """All proxies of the replicas that answer, by cluster and name; and why others do not, such as one that restarts.

    Raises:
        CommandError: no replica answers.
    """
    found, silent = reach.ask_all(planes, PATH, _parse)
    return sorted(found, key=lambda each: (each.cluster, each.name, each.istiod)), silent


def columns(every: Sequence[Synced]) -> tuple[str, ...]:
    """The types to show."""
    others = {kind for each in every for kind in each.types} - set(USUAL)
    return (*USUAL, *sorted(others))


def _parse(istiod: str, text: bytes) -> list[Synced]:
    try:
        return [_one(istiod, each) for each in json.loads(text)]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{istiod}: {PATH} is not what istiod says: {error}") from error


def _one(istiod: str, given: Mapping[str, Any]) -> Synced:
    types = {_TYPES.get(kind, kind): each for kind, each in given["types"].items()}
    return Synced(
        name=str(given["proxy"]),
        cluster=str(given.get("cluster_id", "")),
        istiod=istiod.partition(".")[0] if not istiod[:1].isdigit() else istiod,
        version=str(given.get("istio_version", "")),
        types={kind: str(each["sync"]) for kind, each in types.items()},
        errors={kind: str(each["error"]) for kind, each in types.items() if each.get("error")},
        envoy=str(given.get("envoy_version", "")),
        lacks=tuple(map(str, given.get("lacks", ()))),
    )

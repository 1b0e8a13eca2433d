"""``proxy-config cluster``: SERVICE FQDN, PORT, SUBSET, DIRECTION, TYPE, DESTINATION RULE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from istioctl.dump import Json
from istioctl.views import origin
from wire import decimal

HEADER: Final = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")
_PARTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which clusters; empty means any."""

    fqdn: str = ""
    port: int = 0
    subset: str = ""
    direction: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What a cluster's name says: DIRECTION|PORT|SUBSET|HOST, or any other name."""

    direction: str
    subset: str
    fqdn: str
    port: int

    @property
    def order(self) -> tuple[str, int, str, str]:
        """What istioctl sorts by."""
        return self.fqdn, self.port, self.subset, self.direction


def named(text: str) -> Name:
    """A cluster's name taken apart; one that is not Istio's is its own host."""
    parts = text.split("|")
    port = decimal.number(parts[1]) if len(parts) == _PARTS else None
    if port is None:
        return Name(direction="", subset="", fqdn=text, port=0)
    return Name(direction=parts[0], port=port, subset=parts[2], fqdn=parts[3])


def selected(clusters: Sequence[Json], wanted: Filter) -> list[Json]:
    """Those that the filter lets through, in order."""
    pairs = sorted(((named(each["name"]), each) for each in clusters), key=lambda pair: pair[0].order)
    return [each for name, each in pairs if _fits(name, wanted)]


def rows(clusters: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row each."""
    return [_row(named(each["name"]), each) for each in clusters]


def _fits(name: Name, wanted: Filter) -> bool:
    return (
        (not wanted.fqdn or name.fqdn.lower() == wanted.fqdn.lower())
        and (not wanted.port or name.port == wanted.port)
        and (not wanted.subset or name.subset == wanted.subset)
        and (not wanted.direction or name.direction == wanted.direction.lower())
    )


def _row(name: Name, cluster: Json) -> tuple[str, ...]:
    kind = cluster.get("cluster_type", {}).get("name") or cluster.get("type") or "STATIC"
    port = str(name.port) if name.port else "-"
    return name.fqdn, port, name.subset or "-", name.direction or "-", kind, origin.shown(cluster)

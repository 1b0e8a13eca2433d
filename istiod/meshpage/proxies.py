"""Connected proxies and how each type of their configuration stands (features rows D16 and U4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from istiod.ads.server import ProxyStatus
from istiod.ads.status import Sync, TypeStatus
from istiod.meshpage import listing
from istiod.meshpage.listing import Listing
from wire.node import NodeType

TYPES: Final = {
    "Cluster": "CDS",
    "Listener": "LDS",
    "ClusterLoadAssignment": "EDS",
    "RouteConfiguration": "RDS",
    "Secret": "SDS",
}
"""Columns, by the last part of the type URL. Other types that a proxy asks for stand together in the last column."""
STATES: Final = ("acked", "pending", "nacked", "stale", "not sent")
_WORDS: Final = {Sync.SYNCED: "acked", Sync.PENDING: "pending", Sync.NOT_SENT: "not sent", Sync.STALE: "stale"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One type. ``state`` is one of ``STATES``; ``refused`` are names that the proxy will not take."""

    type: str
    state: str
    error: str
    refused: tuple[str, ...]
    waiting: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One proxy. ``state`` is the worst of its types; ``error`` its last NACK, also of what it has taken since."""

    name: str
    kind: str
    workload: str
    address: str
    identity: str
    version: str
    state: str
    cells: Mapping[str, Cell]
    error: str

    @property
    def others(self) -> tuple[Cell, ...]:
        """Types without a column of their own."""
        return tuple(cell for kind, cell in self.cells.items() if kind not in TYPES.values())


def name(status: ProxyStatus) -> str:
    """POD.NAMESPACE."""
    return f"{status.proxy.node.name}.{status.proxy.node.namespace}"


def row(status: ProxyStatus) -> Row:
    """A proxy as it stands."""
    node = status.proxy.node
    cells = {cell.type: cell for cell in map(_cell, status.types)}
    return Row(
        name=name(status),
        kind="gateway" if node.type is NodeType.ROUTER else "sidecar",
        workload=node.workload_name,
        address=status.proxy.peer.address,
        identity=str(status.proxy.peer.identity or ""),
        version=node.istio_version,
        state=_worst(cells.values()),
        cells=cells,
        error=next((cell.error for cell in cells.values() if cell.error), ""),
    )


def counted(rows: Iterable[Row]) -> Mapping[str, int]:
    """How many proxies stand how, the states that there are, in the order of ``STATES``."""
    found = Counter(each.state for each in rows)
    return {state: found[state] for state in STATES if found[state]}


def shown(rows: Iterable[Row], query: str, state: str, page: int) -> Listing[Row]:
    """Those that a search finds, those first that are not well."""
    found = [
        each
        for each in rows
        if (not state or each.state == state)
        and listing.fits(query, each.name, each.workload, each.address, each.identity, each.version, each.error)
    ]
    return listing.paged(sorted(found, key=lambda each: (-_BADNESS[each.state], each.name)), page)


_BADNESS: Final = {"acked": 0, "not sent": 1, "pending": 2, "stale": 3, "nacked": 4}


def _worst(cells: Iterable[Cell]) -> str:
    """A type that was asked for and has nothing to send says nothing of the proxy."""
    return max((cell.state for cell in cells if cell.state != "not sent"), key=_BADNESS.__getitem__, default="not sent")


def _cell(status: TypeStatus) -> Cell:
    kind = status.type_url.rpartition(".")[2]
    return Cell(
        type=TYPES.get(kind, kind),
        state="nacked" if status.refused else _WORDS[status.sync],
        error=status.error,
        refused=status.refused,
        waiting=status.waiting,
    )

"""S(n, k, m): n Services of k endpoints each and m proxies, as documents (the shape of istiod's recorded figures).

A tenth of the Services has a VirtualService and a DestinationRule with two subsets; everything is spread over ten
namespaces. The mixed mesh has more on top (bench.mixed), in fifty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bench import mixed, objects
from bench.objects import Document

RULED: Final = 10
"""One Service in so many has a VirtualService and a DestinationRule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Services, endpoints of each, proxies; how many Sidecars there are, each for one workload; or a mixed mesh."""

    services: int
    endpoints: int
    proxies: int
    sidecars: int = 0
    mixed: bool = False

    def __str__(self) -> str:
        return f"{'mixed:' if self.mixed else ''}{self.services},{self.endpoints},{self.proxies}"

    @property
    def spread(self) -> int:
        """How many namespaces there are."""
        return mixed.NAMESPACES if self.mixed else objects.NAMESPACES


def parse_size(text: str, sidecars: int = 0) -> Size:
    """``N,K,M`` or ``mixed:N,K,M`` as a Size; ``mixed`` alone is that of 1000,10,1000.

    Raises:
        ValueError: it is no three numbers.
    """
    kind, _, numbers = text.rpartition(":")
    if text == "mixed":
        kind, numbers = text, "1000,10,1000"
    if kind not in {"", "mixed"}:
        raise ValueError(f"{kind} is no kind of mesh")
    n, k, m = (int(part) for part in numbers.split(","))
    return Size(services=n, endpoints=k, proxies=m, sidecars=sidecars, mixed=kind == "mixed")


def documents(size: Size) -> Iterator[Document]:
    """The whole world."""
    spread = size.spread
    if size.mixed:
        yield from mixed.documents(size.services)
    for i in range(size.services):
        yield objects.service(i, spread=spread)
        yield objects.endpoint_slice(i, size.endpoints, spread=spread)
        for j in range(size.endpoints):
            yield objects.pod(i, j, size.endpoints, spread)
    for i in range(0, size.services, RULED):
        yield objects.virtual_service(i, spread=spread)
        yield mixed.destination_rule(i) if size.mixed else objects.destination_rule(i)
    for i in range(size.sidecars):
        yield objects.sidecar(i, spread)


def nodes(size: Size) -> Iterator[Document]:
    """What the fleet's clients say of themselves: one pod after the other."""
    for x in range(size.proxies):
        i, j = x % size.services, x // size.services % size.endpoints
        yield {
            "ip": objects.ip(i * size.endpoints + j),
            "pod": f"app-{i}-{j}",
            "ns": objects.ns(i, size.spread),
            "sa": objects.account(i),
            "labels": objects.labels(i, j),
        }


def audience(size: Size, turn: int, *, new: bool) -> int:
    """How many proxies are told of the turn-th change: of a ``new`` Service, or of one that was there."""
    if not size.mixed:
        return size.proxies
    i = _new(size, turn) if new else _ruled(size, turn)
    return sum(mixed.sees(x % size.services, i, new=new) for x in range(size.proxies))


def _endpoint(size: Size, turn: int, change: int) -> Document:
    return endpoint(size, _ruled(size, turn), change)


def endpoint(size: Size, i: int, change: int) -> Document:
    """The i-th Service's endpoints with one more, which carries the change's number."""
    return objects.endpoint_slice(i, size.endpoints, objects.marked(change), spread=size.spread)


def _weight(size: Size, turn: int, change: int) -> Document:
    return objects.virtual_service(_ruled(size, turn), 50 + change % 50, change, spread=size.spread)


def _service(size: Size, turn: int, change: int) -> Document:
    made = objects.service(_new(size, turn), f"mk-{change}", spread=size.spread)
    made["spec"]["selector"] = {"app": "none"}
    return made


def _new(size: Size, turn: int) -> int:
    return size.services + 1 + turn


def _ruled(size: Size, turn: int) -> int:
    """Services with a DestinationRule and a VirtualService, one after the other."""
    return turn * RULED % size.services


CHANGES: Final[Mapping[str, Callable[[Size, int, int], Document]]] = {
    "endpoint": _endpoint,
    "virtualservice": _weight,
    "service": _service,
}
"""Kinds of change by name: the object of the turn-th change, which carries change number so and so."""

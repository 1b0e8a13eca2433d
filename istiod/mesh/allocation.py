"""Addresses that the mesh gives to hosts without any, for proxies that capture DNS (features row H7).

Such a proxy answers the app's DNS queries with them, so that TCP services on one port can be told apart. What stands in
the status of a ServiceEntry holds; any other host has the address that its namespace and name hash to, so that all
replicas, and those without a cluster, give the same. istiod.kube writes them into the status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

from crds.service_entry import ServiceEntry
from istiod.mesh import families, hosts
from istiod.mesh.egress import Sight
from istiod.mesh.recall import Recall
from istiod.mesh.service import Service
from wire.node import Node

_DNS_CAPTURE = "DNS_CAPTURE"  # node metadata: the agent answers the app's DNS queries
_DNS_AUTO_ALLOCATE = "DNS_AUTO_ALLOCATE"
LABEL: Final = "networking.istio.io/enable-autoallocate-ip"
_FIRST: Final = int(IPv4Address("240.240.0.0"))
_SLOTS: Final = 65_024  # 240.240.0.1 to 240.240.254.253, as Istio counts
_PRIME: Final = 65_011
_ROW: Final = 255  # addresses that end in .255 are nobody's
_FNV_START: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193
_WORD: Final = 0xFFFFFFFF

Versions = tuple[int, ...]
"""IP versions, 4 and 6."""
HostName = tuple[str, str]
"""Host and namespace."""


def wanted(node: Node, *, always: bool = True) -> Versions:
    """The versions of allocated addresses that a proxy looks for: its own, where it captures DNS.

    Unless ``always``, it has to ask for them too (Istio without PILOT_ENABLE_IP_AUTOALLOCATE).
    """
    asked = always or _on(node, _DNS_AUTO_ALLOCATE)
    return families.versions(node.addresses) if asked and captures(node) else ()


def captures(node: Node) -> bool:
    """Whether a proxy's agent answers the app's DNS queries."""
    return _on(node, _DNS_CAPTURE)


def _on(node: Node, name: str) -> bool:
    return str(node.metadata.get(name, "")).lower() in ("true", "t", "1")


def wants(entry: ServiceEntry, host: str, *, by_status: bool) -> bool:
    """Whether a host of an entry gets an address (Istio: ShouldV2AutoAllocateIP).

    Not where the client's own address counts (NONE), nor for wildcards, which have no address to ask for; those of
    DYNAMIC_DNS have. A label on the entry says no, unless addresses are given the old way (not ``by_status``).
    """
    spec = entry.spec
    if spec.addresses or spec.resolution == "NONE":
        return False
    if by_status and entry.metadata.labels.get(LABEL, "").lower() == "false":
        return False
    return not hosts.is_wildcard(host) or (by_status and spec.resolution == "DYNAMIC_DNS")


def allocate(
    asking: Iterable[HostName], held: Mapping[HostName, tuple[str, ...]]
) -> Mapping[HostName, tuple[str, ...]]:
    """An IPv4 and an IPv6 address for each host, by double hashing (Istio: autoAllocateIPs).

    Args:
        asking: those that get one, in the fixed order of the mesh, each once for every object that declares it.
        held: the addresses that some have already; nobody else gets these.
    """
    taken = {_slot(address): name for name, addresses in held.items() for address in addresses if ":" not in address}
    found: dict[HostName, int] = {}
    for name in asking:
        if name in held or len(taken) >= _SLOTS // 2:  # beyond that the search would not end soon, or never
            continue
        slot = _free(name, taken)
        taken[slot] = name
        found[name] = min(slot, found.get(name, slot))
    return {**{name: _addresses(slot + 1) for name, slot in found.items()}, **held}


def _free(name: HostName, taken: Mapping[int, object]) -> int:
    start = _fnv(f"{name[1]}/{name[0]}")
    step = _PRIME - start % _PRIME
    slot, turn = start % _SLOTS, 0
    while slot in taken or (slot + 1) % _ROW == 0:
        turn += 1
        slot = ((start + turn * step) & _WORD) % (_SLOTS - 1)
    return slot


def _slot(address: str) -> int:
    """The slot of an address; negative for what no host would be given."""
    third, fourth = divmod(int(IPv4Address(address)) - _FIRST, 256) if families.version(address) == 4 else (-1, 0)  # noqa: PLR2004 (IPv4)
    return third * _ROW + fourth - 1 if 0 <= third < _ROW else -1


def _addresses(number: int) -> tuple[str, str]:
    third, fourth = divmod(number, _ROW)
    return f"240.240.{third}.{fourth}", f"2001:2::f0f0:{third * 256 + fourth:x}"


@lru_cache(maxsize=65_536)
def _fnv(text: str) -> int:
    """FNV-1a of 32 bits."""
    value = _FNV_START
    for byte in text.encode():
        value = ((value ^ byte) * _FNV_PRIME) & _WORD
    return value


def addressed(sight: Sight, wanted: Versions, recall: Recall) -> Sight:
    """What a proxy sees, where hosts have the allocated addresses of these versions; () changes nothing."""
    if not wanted:
        return sight

    def all_of(services: tuple[Service, ...]) -> tuple[Service, ...]:
        return tuple(_addressed(one, wanted, recall) if one.allocated else one for one in services)

    views = tuple(replace(view, services=all_of(view.services)) for view in sight.views)
    return replace(sight, views=views, services=all_of(sight.services))


def _addressed(service: Service, wanted: Versions, recall: Recall) -> Service:
    def made() -> Service:
        given = tuple(address for address in service.allocated if families.version(address) in wanted)
        return replace(service, addresses=given)

    return recall.of(("addressed", wanted), (service,), made)

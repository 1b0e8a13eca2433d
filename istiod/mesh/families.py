"""The IP versions that a workload speaks, and the addresses that stand for them (features row B10).

A workload with addresses of both versions listens on both: Istio hides that behind ISTIO_DUAL_STACK, we do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address

from wire import names


class Families(Enum):
    """What a workload speaks; the value is its IP versions, the first one leads where only one address can stand."""

    IPV4 = (4,)
    IPV6 = (6,)
    DUAL = (4, 6)

    @property
    def wildcards(self) -> tuple[str, ...]:
        """The addresses that stand for all of its own."""
        return tuple(_WILDCARDS[version] for version in self.value)

    @property
    def loopbacks(self) -> tuple[str, ...]:
        """Where its own programs listen for each other."""
        return tuple(_LOOPBACKS[version] for version in self.value)

    @property
    def inbound_sources(self) -> tuple[str, ...]:
        """The source addresses that tell iptables that the proxy speaks to its own app."""
        return tuple(_SOURCES[version] for version in self.value)

    def spoken(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Those addresses and subnets that it can reach; all where it can reach none, as Istio has it."""
        if self is Families.DUAL:
            return addresses
        return tuple(one for one in addresses if (6 if ":" in one else 4) in self.value) or addresses


_WILDCARDS = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (iptables brings only the workload's own traffic; gateways are open)
_LOOPBACKS = {4: "127.0.0.1", 6: "::1"}
_SOURCES = {4: names.INBOUND_BIND_ADDRESS, 6: names.INBOUND_BIND_ADDRESS_IPV6}
WILDCARDS = frozenset(_WILDCARDS.values())


def of(addresses: Iterable[str]) -> Families:
    """What a workload with these addresses speaks; IPv4 where none is known."""
    return Families(versions(addresses) or (4,))


def versions(addresses: Iterable[str]) -> tuple[int, ...]:
    """The IP versions of these addresses."""
    return tuple(sorted({version(address) for address in addresses} - {0}))


@lru_cache(maxsize=4096)
def version(address: str) -> int:
    """4 or 6; 0 for what is no address: a proxy may say anything, and so may a status."""
    try:
        return ip_address(address).version
    except ValueError:
        return 0

"""Where key sets may be fetched from: not from what is private, local or reserved (hostile-input row SEC54).

Whoever may write a RequestAuthentication can name any address, and istiod reaches more than they do. Addresses are
judged after a name was resolved, and the connection goes to the address that was judged, so that a name that changes
its meaning meanwhile gains nothing. Istio blocks what BLOCKED_CIDRS_IN_JWKS_URIS names, and nothing without. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LAST: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an operator blocks beside the default, and what is allowed whatever blocks it (both CIDRs)."""

    blocked: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def lets(self, address: str, own: frozenset[str] = frozenset()) -> bool:
        """Whether keys may come from an address.

        Args:
            address: an IP address; an IPv6 address that stands for an IPv4 one is judged as both.
            own: addresses of the mesh's service that was asked for, which are private by nature.
        """
        try:
            said = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        meant = _meant(said)
        if _within(meant, self.allowed):
            return True
        if _within(said, self.blocked) or _within(meant, self.blocked):
            return False
        return str(meant) in own or _public(meant)


def _meant(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one leads to (mapped, NAT64, 6to4), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & _LAST)
    return address.ipv4_mapped or address.sixtofour or address


def _within(address: _Address, networks: Iterable[str]) -> bool:
    return any(address in ipaddress.ip_network(network) for network in networks)


def _public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False  # fec0::/10, which Python takes for global
    return address.is_global and not (address.is_multicast or address.is_reserved)

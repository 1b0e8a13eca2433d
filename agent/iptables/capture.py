"""What of a pod's traffic is captured: the settings of istio-iptables as one frozen record.

flags.py fills it from arguments, environment and the machine; rules.py turns it into rules. Values are checked where
they are read (flags.py), so that every value in here is safe to stand in a line of iptables-restore.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

ALL = ("*",)


class Mode(Enum):
    """How inbound connections reach the proxy: REDIRECT rewrites the destination, TPROXY keeps the source address."""

    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Istio's capture settings (features B2 to B10). Ports are numbers or ``FROM:TO`` as iptables writes them.

    ``ALL`` in ``inbound_ports``, ``outbound_cidrs`` or ``owner_groups`` means everything; an empty tuple means nothing.
    """

    proxy_port: str = "15001"
    inbound_port: str = "15006"
    tunnel_port: str = "15008"
    proxy_uids: tuple[str, ...] = ("1337",)
    proxy_gids: tuple[str, ...] = ("1337",)
    mode: Mode = Mode.REDIRECT
    inbound_ports: tuple[str, ...] = ()
    inbound_exclude: tuple[str, ...] = ()
    outbound_cidrs: tuple[str, ...] = ()
    outbound_exclude_cidrs: tuple[str, ...] = ()
    outbound_ports: tuple[str, ...] = ()
    outbound_exclude_ports: tuple[str, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()
    virtual_interfaces: tuple[str, ...] = ()
    owner_groups: tuple[str, ...] = ALL
    owner_groups_exclude: tuple[str, ...] = ()
    tproxy_mark: str = "1337"
    tproxy_table: str = "133"
    drop_invalid: bool = False
    redirect_dns: bool = False
    capture_all_dns: bool = False
    dns_servers: tuple[str, ...] = ()
    ipv6: bool = False
    loopback_cidr: str = "127.0.0.1/32"

    @property
    def captures_dns(self) -> bool:
        """DNS capture is on and there is a server whose traffic could be captured."""
        return self.redirect_dns and (self.capture_all_dns or bool(self.dns_servers))

    @property
    def captures_loopback(self) -> bool:
        """The user asked for a loopback range, so traffic on ``lo`` must not be let through before it is looked at."""
        return any(ipaddress.ip_interface(cidr).ip.is_loopback for cidr in self.outbound_cidrs if cidr != "*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One address family's view of a Capture."""

    version: int
    loopback: str
    passthrough: str
    host_mask: str
    cidrs: tuple[str, ...]
    exclude_cidrs: tuple[str, ...]
    dns_servers: tuple[str, ...]


def ipv4(capture: Capture) -> Family:
    """The IPv4 view."""
    return _family(capture, 4, capture.loopback_cidr, "127.0.0.6/32")


def ipv6(capture: Capture) -> Family:
    """The IPv6 view. ::6 stands for 127.0.0.6 and must be added to ``lo`` (IPv6 has no loopback range)."""
    return _family(capture, 6, "::1/128", "::6/128")


def _family(capture: Capture, version: int, loopback: str, passthrough: str) -> Family:
    return Family(
        version=version,
        loopback=loopback,
        passthrough=passthrough,
        host_mask=passthrough.partition("/")[2],
        cidrs=_of(version, capture.outbound_cidrs),
        exclude_cidrs=_of(version, capture.outbound_exclude_cidrs),
        dns_servers=_of(version, capture.dns_servers),
    )


def _of(version: int, addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in addresses if each == "*" or ipaddress.ip_interface(each).version == version)

"""``resolv.conf`` as the DNS proxy needs it: whom to ask, and what the app's resolver puts behind a name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

PORT: Final = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvConf:
    """``servers`` are addresses in their order, ``search`` the domains of the last line that has some."""

    servers: tuple[str, ...]
    search: tuple[str, ...]

    def without(self, own: Iterable[tuple[str, int]]) -> ResolvConf:
        """Without those servers that are the proxy itself: it would ask itself for ever."""
        ours = {host for host, port in own if port == PORT}
        return ResolvConf(servers=tuple(one for one in self.servers if one not in ours), search=self.search)


def read(text: str) -> ResolvConf:
    """What a file says; lines that are none of its format are passed over, as resolvers do."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for words in (line.split() for line in text.splitlines()):
        match words:
            case ["nameserver", address, *_] if _is_address(address):
                servers.append(address)
            case ["search", *domains]:
                search = tuple(one.rstrip(".").lower() for one in domains if one.rstrip("."))
            case ["domain", domain, *_]:
                search = (domain.rstrip(".").lower(),)
    return ResolvConf(servers=tuple(servers), search=search)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

"""Whether and where the agent answers DNS queries, by variables that Istio's agent has (rows B9, C12). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.dns.resolvconf import ResolvConf

CAPTURE: Final = "ISTIO_META_DNS_CAPTURE"
ADDRESS: Final = "DNS_PROXY_ADDR"
PARALLEL: Final = "DNS_FORWARD_PARALLEL"
_DEFAULT: Final = "localhost:15053"
_ON: Final = frozenset({"1", "t", "true"})
_LOCAL: Final = "localhost"


class DnsAddressError(ValueError):
    """DNS_PROXY_ADDR is no HOST:PORT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """Where the proxy listens, and whether it asks all servers at once."""

    addresses: tuple[tuple[str, int], ...]
    parallel: bool


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the app's queries come to the agent."""
    return environment.get(CAPTURE, "").lower() in _ON


def read(environment: Mapping[str, str], resolvers: ResolvConf) -> DnsSettings:
    """The settings. ``localhost`` is the loopback address of each IP version in which the pod has a name server.

    Raises:
        DnsAddressError: the address is none.
    """
    said = environment.get(ADDRESS) or _DEFAULT
    host, colon, text = said.rpartition(":")
    if not colon or not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise DnsAddressError(f"{ADDRESS}={said}: no HOST:PORT")
    hosts = [host.strip("[]") or "0.0.0.0"]  # noqa: S104 (what Go's ":53" means, and only where the user says so)
    if host == _LOCAL:
        six = any(":" in server for server in resolvers.servers)
        four = not six or any(":" not in server for server in resolvers.servers)
        hosts = [*(["127.0.0.1"] if four else []), *(["::1"] if six else [])]
    return DnsSettings(
        addresses=tuple((one, int(text)) for one in hosts),
        parallel=environment.get(PARALLEL, "").lower() in _ON,
    )

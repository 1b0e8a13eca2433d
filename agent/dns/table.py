"""The names that the agent answers for, made from the control plane's table (Istio: pkg/dns/client). Pure.

A Service of Kubernetes is known as ``reviews`` in its own namespace, ``reviews.default``, ``reviews.default.svc`` and
by its whole name. What the app's resolver asks first, a name with the first search domain behind it, is an alias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_KUBERNETES = "Kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedHost:
    """An entry of the control plane's table."""

    host: str
    addresses: tuple[str, ...]
    registry: str = ""
    short: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where the proxy is: its namespace, its domain (``svc.cluster.local``), and the first search domain or ""."""

    namespace: str
    domain: str
    search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of a name. ``alias`` is the name that it stands for, "" for none."""

    addresses: tuple[str, ...]
    alias: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Names without their final dot, in small letters; ``aliases`` lead to names."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Found | None:
        """What a name resolves to; None where it is none of ours. The nearest wildcard answers for what is below it."""
        for candidate in _candidates(name):
            if (addresses := self.names.get(candidate)) is not None:
                return Found(addresses=addresses)
            if (alias := self.aliases.get(candidate)) is not None:
                target = name.removesuffix(candidate[1:]) + alias[1:] if alias.startswith("*.") else alias
                return Found(addresses=self.names[alias], alias=target)
        return None


def home(namespace: str, domain: str, search: tuple[str, ...]) -> Home:
    """Where a proxy is, by its ``--domain`` (with or without the namespace before it) and its search domains."""
    return Home(namespace=namespace, domain=domain.removeprefix(f"{namespace}."), search=search[0] if search else "")


def build(hosts: Iterator[NamedHost], place: Home) -> Table:
    """The table; where a short name is a whole name of another host, the whole name stands."""
    names: dict[str, tuple[str, ...]] = {}
    variants: dict[str, tuple[str, ...]] = {}
    for one in hosts:
        names[one.host.lower()] = one.addresses
        for variant in _variants(one, place):
            variants[variant.lower()] = one.addresses
    names = {**variants, **names}
    search = f".{place.search}" if place.search else ""
    aliases = {f"{name}{search}": name for name in names if search}
    return Table(names=names, aliases={alias: name for alias, name in aliases.items() if alias not in names})


def _variants(one: NamedHost, place: Home) -> Iterator[str]:
    """The shorter names of a Service; none for one of another cluster's domain."""
    if one.registry != _KUBERNETES or not place.domain or not one.host.endswith(place.domain):
        return
    yield f"{one.short}.{one.namespace}"
    yield f"{one.short}.{one.namespace}.{place.domain.partition('.')[0]}"
    if one.namespace == place.namespace:
        yield one.short


def _candidates(name: str) -> Iterator[str]:
    yield name
    rest = name
    while rest:
        _, _, rest = rest.partition(".")
        if rest:
            yield f"*.{rest}"

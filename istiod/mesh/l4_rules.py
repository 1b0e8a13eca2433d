"""TLS and TCP rules of VirtualServices, read once per object (features rows F17, F18).

Who is asked for is decided per scope, in l4_routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crds import virtual_service
from istiod.config.origin import Origin
from istiod.mesh import conditions
from istiod.mesh.conditions import EVERYBODY, Source
from istiod.mesh.http_rules import Reader, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class L4Match:
    """Which connections: by server name (TLS), by destination address, and the clients it is for."""

    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    source: Source = EVERYBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class L4Rule:
    """One rule of ``tls`` or ``tcp``. A tcp rule without a match takes every connection."""

    origin: Origin
    matches: tuple[L4Match, ...]
    shares: tuple[Share, ...]


def tls(reader: Reader, said: Iterable[virtual_service.TLSRoute]) -> tuple[L4Rule, ...]:
    """The rules of ``spec.tls``; those without destination or match have no effect."""
    found = (
        L4Rule(
            origin=Origin(key=reader.key),
            matches=tuple(_match(reader, match, _names(match.sni_hosts)) for match in rule.match),
            shares=_shares(reader, f"spec.tls[{index}]", rule.route),
        )
        for index, rule in enumerate(said)
    )
    return tuple(rule for rule in found if rule.matches and rule.shares)


def tcp(reader: Reader, said: Iterable[virtual_service.TCPRoute]) -> tuple[L4Rule, ...]:
    """The rules of ``spec.tcp``; those without destination have no effect."""
    found = (
        L4Rule(
            origin=Origin(key=reader.key),
            matches=tuple(_match(reader, match, ()) for match in rule.match) or (L4Match(),),
            shares=_shares(reader, f"spec.tcp[{index}]", rule.route),
        )
        for index, rule in enumerate(said)
    )
    return tuple(rule for rule in found if rule.shares)


def _match(
    reader: Reader,
    said: virtual_service.TLSMatchAttributes | virtual_service.L4MatchAttributes,
    server_names: tuple[str, ...],
) -> L4Match:
    namespace = reader.key.namespace
    return L4Match(
        server_names=server_names,
        subnets=said.destination_subnets,
        source=Source(
            gateways=tuple(conditions.resolve_gateway(name, namespace) for name in said.gateways),
            selector=conditions.selector_id(said.source_labels),
            namespace=said.source_namespace,
            port=said.port,
        ),
    )


def _names(said: tuple[str, ...]) -> tuple[str, ...]:
    """Server names as Envoy compares them; ``*`` is every one, which Envoy wants to have left out."""
    return () if "*" in said else tuple(dict.fromkeys(name.lower() for name in said))


def _shares(reader: Reader, place: str, said: tuple[virtual_service.RouteDestination, ...]) -> tuple[Share, ...]:
    return tuple(
        Share(
            target=reader.target(one.destination),
            weight=one.weight if len(said) > 1 else 1,
            origin=Origin(key=reader.key, field=f"{place}.route[{index}].destination"),
        )
        for index, one in enumerate(said)
        if one.weight > 0 or len(said) == 1
    )

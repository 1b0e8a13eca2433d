"""Gateways that claim the same hosts on the same port of the same proxies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message, selectors
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_Claim = tuple[int, str, str]
"""A port, a host, and the address that is listened on."""


def _run(known: Collection) -> Iterator[Message]:
    gateways = known.of(kinds.GATEWAY)
    chosen = {gateway: frozenset(map(id, known.pods(fields.labels(gateway.spec, "selector")))) for gateway in gateways}
    claims: dict[_Claim, list[Resource]] = {}
    for gateway in gateways:
        for claim in dict.fromkeys(each for server in _servers(gateway) for each in _claims(server)):
            claims.setdefault(claim, []).append(gateway)
    for gateway in gateways:
        selector = fields.labels(gateway.spec, "selector")
        for server in _servers(gateway):
            others = {other for claim in _claims(server) for other in claims[claim]} - {gateway}
            names = sorted(each.full_name for each in others if _meet(gateway, each, chosen))
            if names:
                port = fields.number(server, "port", "number")
                values = (",".join(names), selectors.written(selector), port, ",".join(fields.texts(server, "hosts")))
                yield message.make(catalogue.CONFLICTING_GATEWAYS, gateway, *values)


def _servers(gateway: Resource) -> list[fields.Record]:
    return fields.records(gateway.spec, "servers")


def _claims(server: fields.Record) -> list[_Claim]:
    port, bind = fields.number(server, "port", "number"), fields.text(server, "bind")
    return [(port, host, bind) for host in fields.texts(server, "hosts")]


def _meet(one: Resource, other: Resource, chosen: dict[Resource, frozenset[int]]) -> bool:
    """Whether two gateways have the same selector, or one selector is a part of the other and a pod matches both."""
    mine, theirs = fields.labels(one.spec, "selector"), fields.labels(other.spec, "selector")
    if mine == theirs:
        return True
    nested = mine.items() <= theirs.items() or theirs.items() <= mine.items()
    return nested and bool(chosen[one] & chosen[other])


ANALYZER: Final = Analyzer(
    name="gateway.ConflictingGatewayAnalyzer",
    description="Checks a gateway's selector, port number and hosts",
    run=_run,
)

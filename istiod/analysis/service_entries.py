"""ServiceEntries: TCP without addresses, and two that speak different protocols on one port of one host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import audience, catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource, Steps

_CAPTURE: Final = "ISTIO_META_DNS_CAPTURE"
_ALLOCATE: Final = ("ISTIO_META_DNS_AUTO_ALLOCATE", "PILOT_ENABLE_IP_AUTOALLOCATE")

_Place = tuple[str, str, int]
"""Scope, host and port."""


def _addresses(known: Collection) -> Iterator[Message]:
    environment = fields.labels(known.mesh, "defaultConfig", "proxyMetadata")
    if environment.get(_CAPTURE) == "true" and any(environment.get(each) == "true" for each in _ALLOCATE):
        return
    for entry in known.of(kinds.SERVICE_ENTRY):
        if fields.dig(entry.spec, "addresses") or fields.dig(entry.document, "status", "addresses"):
            continue
        for i, port in enumerate(fields.records(entry.spec, "ports")):
            if fields.text(port, "protocol").upper() in ("", "TCP"):
                at: Steps = ("spec", "ports", i, "name")
                yield message.make(catalogue.ADDRESSES_REQUIRED, entry, at=at)


def _protocols(known: Collection) -> Iterator[Message]:
    found = _by_place(known)
    reported: set[Resource] = set()
    for (scope, host, number), some in sorted(found.items(), key=lambda one: one[0]):
        everywhere = [] if scope == audience.EVERYWHERE else found.get((audience.EVERYWHERE, host, number), [])
        entries = [*some, *everywhere]
        protocols = sorted({protocol for protocol, _ in entries})
        names = ", ".join(sorted({entry.full_name for _, entry in entries}))
        for _, entry in entries if len(protocols) > 1 else ():
            if entry not in reported:
                reported.add(entry)
                values = (names, host, number, ", ".join(protocols))
                yield message.make(catalogue.CONFLICTING_PROTOCOLS, entry, *values, at=("metadata", "name"))


def _by_place(known: Collection) -> dict[_Place, list[tuple[str, Resource]]]:
    """The protocols that ServiceEntries give to each port of each host."""
    found: dict[_Place, list[tuple[str, Resource]]] = {}
    for entry in known.of(kinds.SERVICE_ENTRY):
        ports = [
            (fields.number(e, "number"), fields.text(e, "protocol").upper())
            for e in fields.records(entry.spec, "ports")
        ]
        for scope in audience.scopes(fields.texts(entry.spec, "exportTo"), entry.namespace):
            for host in fields.texts(entry.spec, "hosts"):
                for number, protocol in ports:
                    found.setdefault((scope, host, number), []).append((protocol, entry))
    return found


ADDRESSES: Final = Analyzer(
    name="serviceentry.Analyzer", description="Checks the validity of ServiceEntry", run=_addresses
)
PROTOCOLS: Final = Analyzer(
    name="serviceentry.ConflictingServiceEntryProtocolAnalyzer",
    description="Checks if multiple ServiceEntries define the same host and port with different protocols",
    run=_protocols,
)

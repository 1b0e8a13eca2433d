"""Ports of services that cannot be told from those of older ones at the same address (diagnostic M0109).

Which of them has the listener is outbound_listeners' doing.
"""

from __future__ import annotations

from collections.abc import Iterator

from crds.diagnostic import Code, Diagnostic, warning
from istiod.mesh import outbound_listeners
from istiod.mesh.families import Families
from istiod.mesh.model import Model
from istiod.mesh.outbound_listeners import Piece, Place
from istiod.mesh.recall import Recall
from istiod.mesh.service import Service
from istiod.mesh.sidecars import Egress


def findings(model: Model, recall: Recall) -> tuple[Diagnostic, ...]:
    """Opaque ports that an older service has already at the same address. Rules move none of them."""
    inputs = (model.registry, model.summaries)
    return recall.of_many("port conflicts", inputs, lambda: tuple(_conflicts(model, recall)))


def _conflicts(model: Model, recall: Recall) -> Iterator[Diagnostic]:
    owners: dict[tuple[str, int, str], Service] = {}
    firsts: dict[Place, Piece] = {}
    for piece in _pieces(model, recall):
        first = firsts.setdefault(piece.key, piece)
        if not outbound_listeners.share(first, piece):
            yield warning(
                Code.PORT_CONFLICT,
                piece.service.origin.key,
                "spec.ports",
                f"port {piece.port.number} of {piece.service.host} is left out: {piece.port.protocol.value} and "
                f"{first.port.protocol.value}, which {first.service.host} ({first.service.origin}) has there and is "
                "older, share no address: give it one of its own",
            )
            continue
        if piece.port.protocol.is_http or piece.prefixes:
            continue
        name = piece.service.host.lower() if piece.port.protocol.is_tls and outbound_listeners.by_name(piece) else ""
        keys = [(bind, piece.port.number, name) for bind in (piece.bind, *piece.more)]
        owner = next((owners[key] for key in keys if key in owners), piece.service)
        owners.update((key, piece.service) for key in keys if key not in owners)
        if owner is not piece.service:
            yield warning(
                Code.PORT_CONFLICT,
                piece.service.origin.key,
                "spec.ports",
                f"port {piece.port.number} of {piece.service.host} cannot be told from the one of {owner.host} "
                f"({owner.origin}), which is older: give it an address of its own, or protocol TLS or HTTP",
            )


def _pieces(model: Model, recall: Recall) -> Iterator[Piece]:
    for service in model.registry.services:  # oldest first
        yield from outbound_listeners.pieces(model, service, recall, Egress(), Families.DUAL)

"""Sidecars' own inbound listeners, where an outbound listener is at the same address and port (features row J2).

Envoy refuses the second listener at a place, and of two of one name only one can be. The outbound one serves, since
Istio gives it first. The inbound one is left out, and the Sidecar is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from crds.diagnostic import Code, Diagnostic, warning
from istiod.mesh import egress, inbound, outbound_listeners
from istiod.mesh.families import Families
from istiod.mesh.model import Model
from istiod.mesh.outbound_listeners import Place
from istiod.mesh.recall import Recall
from istiod.mesh.scope import InboundScope, Listener, OutboundScope, ScopeKey
from istiod.mesh.service import Service
from istiod.mesh.sidecars import Ingress, Sidecar
from istiod.mesh.virtual_services import VirtualServiceIndex
from wire.node import NodeType


def beside(own: InboundScope, outbound: OutboundScope, recall: Recall) -> InboundScope:
    """The inbound scope that a proxy can have beside an outbound one; ``own`` itself where no two listeners meet."""
    if not own.listeners.keys() - {inbound.LISTENER}:
        return own
    taken = recall.of_many("places", (outbound.listeners,), lambda: _places(outbound.listeners))
    return recall.of_many("beside", (own, taken), lambda: _without(own, taken))


def _places(listeners: Mapping[str, Listener]) -> frozenset[Place]:
    return frozenset(place for one in listeners.values() for place in one.places)


def _without(own: InboundScope, taken: frozenset[Place]) -> InboundScope:
    kept = {name: one for name, one in own.listeners.items() if taken.isdisjoint(one.places)}
    return own if len(kept) == len(own.listeners) else replace(own, listeners=kept)


def findings(model: Model, recall: Recall) -> Iterator[Diagnostic]:
    """Inbound listeners of Sidecars that are left out."""
    for said in model.sidecars.by_key.values():
        if any(map(_may_bind, said.ingress)):
            inputs = (said, model.registry, model.summaries)
            yield from recall.of_many("ingress findings", inputs, partial(_found, model, said, recall))


def _may_bind(one: Ingress) -> bool:
    return bool(one.bind) and one.binds is not False


def _found(model: Model, said: Sidecar, recall: Recall) -> tuple[Diagnostic, ...]:
    """Those of one Sidecar. A listener that says nothing of capture binds where the proxy captures nothing."""
    found: list[Diagnostic] = []
    for captured in (False, True):
        own = {n: one for n, one in enumerate(said.ingress) if _may_bind(one) and bool(one.binds) is captured}
        owners = _owners(model, said, recall, captured=captured) if own else {}
        for number, one in own.items():
            if (service := owners.get((one.bind, one.port.number))) is not None:
                message = f"is left out: proxies listen at {one.bind} port {one.port.number} for {service.host}"
                found.append(warning(Code.PORT_CONFLICT, said.key, f"spec.ingress[{number}].bind", message))
    return tuple(found)


def _owners(model: Model, said: Sidecar, recall: Recall, *, captured: bool) -> Mapping[Place, Service]:
    """The services that proxies of a Sidecar have outbound listeners for, by their places."""
    key = ScopeKey(type=NodeType.SIDECAR, namespace=said.key.namespace, sidecar=said.key, captured=captured)
    owners: dict[Place, Service] = {}
    for view in egress.sight(model, VirtualServiceIndex(), key, recall).views:
        for service in view.services:
            for piece in outbound_listeners.pieces(model, service, recall, view.listener, Families.DUAL):
                for bind in (piece.bind, *piece.more):
                    owners.setdefault((bind, piece.port.number), service)
    return owners

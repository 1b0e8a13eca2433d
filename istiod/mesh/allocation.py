"""Addresses that the mesh gave to hosts without any, for proxies that capture DNS (features row H7).

Such a proxy answers the app's DNS queries with them, so that TCP services on one port can be told apart. Who gives the
addresses is not decided here: they stand in the status of ServiceEntries.
"""

from __future__ import annotations

from dataclasses import replace

from istiod.mesh import families
from istiod.mesh.egress import Sight
from istiod.mesh.recall import Recall
from istiod.mesh.service import Service
from wire.node import Node

_DNS_CAPTURE = "DNS_CAPTURE"  # node metadata: the agent answers the app's DNS queries

Versions = tuple[int, ...]
"""IP versions, 4 and 6."""


def wanted(node: Node) -> Versions:
    """The versions of allocated addresses that a proxy looks for: its own, where it captures DNS."""
    return families.versions(node.addresses) if node.metadata.get(_DNS_CAPTURE) == "true" else ()


def addressed(sight: Sight, wanted: Versions, recall: Recall) -> Sight:
    """What a proxy sees, where hosts have the allocated addresses of these versions; () changes nothing."""
    if not wanted:
        return sight

    def all_of(services: tuple[Service, ...]) -> tuple[Service, ...]:
        return tuple(_addressed(one, wanted, recall) if one.allocated else one for one in services)

    views = tuple(replace(view, services=all_of(view.services)) for view in sight.views)
    return replace(sight, views=views, services=all_of(sight.services))


def _addressed(service: Service, wanted: Versions, recall: Recall) -> Service:
    def made() -> Service:
        given = tuple(address for address in service.allocated if families.version(address) in wanted)
        return replace(service, addresses=given)

    return recall.of(("addressed", wanted), (service,), made)

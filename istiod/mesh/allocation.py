"""Addresses that the mesh gave to hosts without any, for proxies that capture DNS (features row H7).

Such a proxy answers the app's DNS queries with them, so that TCP services on one port can be told apart. Who gives the
addresses is not decided here: they stand in the status of ServiceEntries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

from istiod.mesh.egress import Sight
from istiod.mesh.recall import Recall
from istiod.mesh.service import Service

Families = tuple[int, ...]
"""IP versions, 4 and 6."""


def families(addresses: Iterable[str]) -> Families:
    """The IP versions that a proxy with these addresses speaks."""
    return tuple(sorted({_version(address) for address in addresses} - {0}))


def addressed(sight: Sight, wanted: Families, recall: Recall) -> Sight:
    """What a proxy sees, where hosts have the allocated addresses of these families; () changes nothing."""
    if not wanted:
        return sight

    def all_of(services: tuple[Service, ...]) -> tuple[Service, ...]:
        return tuple(_addressed(one, wanted, recall) if one.allocated else one for one in services)

    views = tuple(replace(view, services=all_of(view.services)) for view in sight.views)
    return replace(sight, views=views, services=all_of(sight.services))


def _addressed(service: Service, wanted: Families, recall: Recall) -> Service:
    def made() -> Service:
        given = tuple(address for address in service.allocated if _version(address) in wanted)
        return replace(service, addresses=given)

    return recall.of(("addressed", wanted), (service,), made)


def _version(address: str) -> int:
    """4 or 6; 0 for what is no address: a proxy may say anything, and so may a status."""
    try:
        return ip_address(address).version
    except ValueError:
        return 0

"""What the agent of a proxy may answer DNS queries with: hosts and their addresses (features rows C12, D9).

Pods of headless services are endpoints, which no scope holds: istiod.envoy.name_table puts them in. What variants of a
name the agent answers (``reviews``, ``reviews.default``) is the agent's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from istiod.mesh import families
from istiod.mesh.families import Families
from istiod.mesh.service import Resolution, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A host. ``addresses`` are () where the endpoints of ``port`` are what it resolves to (headless services)."""

    host: str
    namespace: str
    short: str
    kubernetes: bool
    addresses: tuple[str, ...]
    port: int = 0


def of(services: Iterable[Service], spoken: Families) -> tuple[Name, ...]:
    """The names of these services, for a workload that speaks these IP versions.

    Without subnets, which are no answer, and without hosts of which neither an address nor a pod is known.
    """
    found = []
    for service in services:
        addresses = tuple(one for one in spoken.spoken(service.addresses) if families.version(one))
        headless = not service.addresses and service.resolution is Resolution.PASSTHROUGH and service.ports
        if addresses or headless:
            name = Name(
                host=service.host,
                namespace=service.namespace,
                short=service.name,
                kubernetes=service.kubernetes,
                addresses=addresses,
                port=service.ports[0].number if headless else 0,
            )
            found.append(name)
    return tuple(found)

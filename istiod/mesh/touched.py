"""Whose endpoints may differ from before: hosts, by what was touched. What they are then is endpoints.py's."""

from __future__ import annotations

from collections.abc import Iterator

from istiod.mesh.backends import Touched
from istiod.mesh.endpoints import HostName
from istiod.mesh.settings import MeshSettings
from istiod.mesh.sources import Sources


def hosts(before: Sources, found: Sources, moved: Touched, settings: MeshSettings) -> Iterator[HostName]:
    """Hosts that slices and pods name, that select a workload, or that are declared otherwise."""
    for namespace, name in moved.services:
        yield f"{name}.{namespace}.svc.{settings.dns_domain}", namespace
    for namespace in {namespace for namespace, _ in moved.pods}:
        for service in found.registry.in_namespace(namespace):
            if service.selector and not service.kubernetes:
                yield service.host, namespace
    for namespace in moved.entries:
        yield from ((s.host, namespace) for s in found.registry.in_namespace(namespace) if s.selector)
    if found.registry is not before.registry:
        yield from {(s.host, s.namespace) for s in set(found.registry.services) ^ set(before.registry.services)}
    if found.declared is not before.declared:
        old, new = before.declared.leaves, found.declared.leaves
        yield from (name for name in old.keys() | new.keys() if old.get(name) is not new.get(name))

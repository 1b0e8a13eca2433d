"""Name tables for agents that answer DNS queries: hosts of a scope, and the pods of headless services (row D9).

Istio's type, no Envoy's: the agent asks for it on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from weakref import WeakValueDictionary

from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import wellknown
from istiod.mesh.endpoint import EndpointLeaf, EndpointTable
from istiod.mesh.name_table import Name
from protos import nds_pb2
from wire import names

NAME: Final = "name-table"
"""What the one resource is called."""
_REGISTRIES: Final = {True: "Kubernetes", False: "External"}


class Table(dict[str, Resource]):
    """The one resource by its name, with what it was made of."""

    __slots__ = ("__weakref__", "inputs")

    inputs: tuple[object, ...]


class Tables:
    """Name tables by what they are made of; each lives as long as somebody has it."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[int, ...], Table] = WeakValueDictionary()

    def of(self, hosts: tuple[Name, ...], endpoints: EndpointTable) -> Table:
        """The table of these hosts; the same object while hosts and the pods of headless ones are the same."""
        leaves = [endpoints.leaves.get((one.host, one.namespace)) for one in hosts if one.port]
        inputs = (hosts, *leaves)
        key = tuple(map(id, inputs))
        found = self._known.get(key)
        if found is None:
            found = Table({NAME: compile(hosts, endpoints)})
            found.inputs = inputs
            self._known[key] = found
        return found


def compile(hosts: tuple[Name, ...], endpoints: EndpointTable) -> Resource:  # noqa: A001 (read as name_table.compile)
    """The resource of these hosts."""
    return resource.make(NAME, names.NAME_TABLE, wellknown.encode(message(hosts, endpoints)))


def message(hosts: tuple[Name, ...], endpoints: EndpointTable) -> nds_pb2.NameTable:
    """The table as a message."""
    table = nds_pb2.NameTable()
    for one in hosts:
        leaf = endpoints.leaves.get((one.host, one.namespace)) if one.port else None
        addresses = one.addresses or tuple(_addresses(leaf, one.port))
        if addresses:
            _put(table, one, one.host, one.short, addresses)
        for pod, address in _pods(leaf, one.port) if one.kubernetes else ():
            _put(table, one, f"{pod}.{one.host}", f"{pod}.{one.short}", address)
    return table


def _addresses(leaf: EndpointLeaf | None, port: int) -> Iterator[str]:
    for endpoint in leaf.ports.get(port, ()) if leaf else ():
        yield from (endpoint.address, *endpoint.additional)


def _pods(leaf: EndpointLeaf | None, port: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Pods with a name of their own in the service (those of a StatefulSet), and their addresses."""
    for endpoint in leaf.ports.get(port, ()) if leaf else ():
        if endpoint.hostname:
            yield endpoint.hostname, (endpoint.address, *endpoint.additional)


def _put(table: nds_pb2.NameTable, one: Name, host: str, short: str, addresses: tuple[str, ...]) -> None:
    """What the agent makes ``reviews.default`` of is said of Kubernetes' services only."""
    entry = table.table[host]
    entry.ips.extend(addresses)
    entry.registry = _REGISTRIES[one.kubernetes]
    if one.kubernetes:
        entry.shortname, entry.namespace = short, one.namespace

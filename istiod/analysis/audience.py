"""Hosts of services, and which namespaces see them (``exportTo``), as Istio's analyzers look them up.

The mesh itself resolves hosts in istiod.mesh; these rules judge documents that the mesh may refuse.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from istiod.analysis import fields, kinds
from istiod.analysis.resources import Collection, Resource
from istiod.mesh import hosts
from wire import names

EVERYWHERE: Final = "*"
HERE: Final = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service or a host of a ServiceEntry: its port numbers, the labels of the pods behind it, and other endpoints.

    ``endpoints`` are the labels of those that a ServiceEntry names itself, and of WorkloadEntries that it selects.
    """

    ports: tuple[int, ...]
    selector: Mapping[str, str]
    endpoints: tuple[Mapping[str, str], ...] = ()


def scopes(export_to: Iterable[str], namespace: str) -> list[str]:
    """The namespaces that see an object of a namespace; ``*`` alone where all do."""
    found = list(dict.fromkeys(namespace if each == HERE else each for each in export_to))
    return [EVERYWHERE] if not found or EVERYWHERE in found else found


def full(host: str, namespace: str, domain: str) -> str:
    """The full name of a host as an object of a namespace means it."""
    return hosts.resolve(host, namespace, domain)


def _endpoints(
    entry: Resource, selector: Mapping[str, str], workloads: Iterable[Mapping[str, str]]
) -> Iterator[Mapping[str, str]]:
    """Labels of what the entry names, and of those that it selects of the workloads of its namespace."""
    for each in fields.records(entry.spec, "endpoints"):
        yield fields.labels(each, "labels")
    if selector:
        yield from (labels for labels in workloads if selector.items() <= labels.items())


class Services:
    """All services by scope and full host."""

    def __init__(self, known: Collection) -> None:
        self._domain = known.domain
        self._by_host: dict[tuple[str, str], Service] = {}
        self._patterns: dict[tuple[str, str], tuple[int, Service]] = {}
        """By scope and suffix: which came first, and the service."""
        workloads = {
            namespace: [fields.labels(each.spec, "labels") for each in some]
            for namespace, some in known.by_namespace(kinds.WORKLOAD_ENTRY).items()
        }
        for entry in known.of(kinds.SERVICE_ENTRY):
            ports = tuple(fields.number(each, "number") for each in fields.records(entry.spec, "ports"))
            selector = fields.labels(entry.spec, "workloadSelector", "labels")
            endpoints = tuple(_endpoints(entry, selector, workloads.get(entry.namespace, ())))
            service = Service(ports=ports, selector=selector, endpoints=endpoints)
            for host in fields.texts(entry.spec, "hosts"):
                self._add(scopes(fields.texts(entry.spec, "exportTo"), entry.namespace), entry.namespace, host, service)
        for one in known.of(kinds.SERVICE):
            ports = tuple(fields.number(each, "port") for each in fields.records(one.spec, "ports"))
            said = one.annotations.get(names.ANNOTATION_EXPORT_TO, "")
            where = scopes((each.strip() for each in said.split(",")) if said else (), one.namespace)
            service = Service(ports=ports, selector=fields.labels(one.spec, "selector"))
            self._add(where, one.namespace, one.name, service)

    def _add(self, where: Iterable[str], namespace: str, host: str, service: Service) -> None:
        whole = full(host, namespace, self._domain)
        for scope in where:
            self._by_host[scope, whole] = service
            if hosts.is_wildcard(whole):
                self._patterns.setdefault((scope, whole[1:]), (len(self._patterns), service))

    def find(self, host: str, namespace: str, export_to: Iterable[str] = ()) -> Service | None:
        """The service that a host means to an object of a namespace, which is itself seen by ``export_to``."""
        whole = full(host, namespace, self._domain)
        own = [namespace if each == HERE else each for each in export_to] or [namespace]
        for scope in (EVERYWHERE, *own):
            if (found := self._by_host.get((scope, whole))) is not None:
                return found
        return self._held(host.removeprefix("*"), namespace) if self._patterns else None

    def _held(self, host: str, namespace: str) -> Service | None:
        """The first of the patterns that hold a host: each of its ends may be one's."""
        ends = (host[start:] for start in range(len(host) + 1))
        found = (self._patterns.get((scope, end)) for end in ends for scope in (EVERYWHERE, namespace))
        first = min((each for each in found if each is not None), key=operator.itemgetter(0), default=None)
        return None if first is None else first[1]

    def any_of(self, pattern: str, namespace: str) -> bool:
        """Whether a wildcard holds a host that a namespace sees."""
        return hosts.is_wildcard(pattern) and any(
            scope in (EVERYWHERE, namespace) and hosts.matches(pattern, host) for scope, host in self._by_host
        )

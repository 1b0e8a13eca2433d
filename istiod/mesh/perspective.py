"""With whose eyes a class of sidecars sees rules: most namespaces see them alike, and what is made for one serves all.

Short names of hosts are left out: they differ for each namespace, and route_tables puts them in last.
"""

from __future__ import annotations

from collections.abc import Iterator

from istiod.mesh import hosts
from istiod.mesh.destination_rules import PolicyIndex
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.registry import EVERYWHERE, Registry
from istiod.mesh.virtual_services import VirtualServiceIndex

ANYBODY = ""
"""The namespace that stands for all of which no rule speaks: only what is exported to everybody is seen from it."""


def of(model: Model, index: VirtualServiceIndex, namespace: str, recall: Recall) -> str:
    """The namespace to look up rules with for clients of ``namespace``: itself or ANYBODY, with the same answers."""
    inputs = (model.registry, model.policies, index)
    special = recall.of_many("special", inputs, lambda: frozenset(_special(model.registry, model.policies, index)))
    return namespace if namespace in special else ANYBODY


def _special(registry: Registry, policies: PolicyIndex, index: VirtualServiceIndex) -> Iterator[str]:
    """Namespaces whose clients may get another answer than those of a namespace that nobody ever named."""
    for one in index.by_key.values():
        yield from one.export_to - {EVERYWHERE}
        yield from one.source_namespaces()
    for home, rules in policies.by_namespace.items():
        for host, several in rules.items():
            for rule in several:
                if EVERYWHERE not in rule.export_to:
                    yield home
                    yield from rule.export_to
            if home != policies.root_namespace and _speaks_for_others(host, home, registry):
                yield home


def _speaks_for_others(host: str, home: str, registry: Registry) -> bool:
    """Whether a policy may hold for a service of another namespace: then only clients at ``home`` follow it."""
    return hosts.is_wildcard(host) or any(service.namespace != home for service in registry.by_host.get(host, ()))

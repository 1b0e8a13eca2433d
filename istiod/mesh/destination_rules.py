"""Which DestinationRule speaks for a host, and its traffic policy per port and subset, merged (features rows G1-G3).

Turning one rule's fields into policies is traffic_policy.py's; clusters.py uses the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from istiod.config.origin import Origin
from istiod.mesh import hosts
from istiod.mesh.policy import HashPolicy, TrafficPolicy
from istiod.mesh.registry import exported
from istiod.mesh.service import Labels, Service

_DEFAULT = TrafficPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A named part of a host's endpoints: those that carry ``labels``."""

    name: str
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    """Everything the DestinationRules of one host in one namespace say, merged.

    ``policies`` holds the merged policy by (port, subset): port 0 is every port without settings of its own, subset ""
    is the whole host.
    """

    origin: Origin
    host: str
    export_to: frozenset[str]
    subsets: tuple[Subset, ...] = ()
    policies: tuple[tuple[tuple[int, str], TrafficPolicy], ...] = ()

    def subset(self, name: str) -> Subset | None:
        """The subset of that name, or None."""
        return next((s for s in self.subsets if s.name == name), None)

    def policy(self, port: int, subset: str = "") -> TrafficPolicy:
        """The policy of a service port, of the whole host or of a subset."""
        said = dict(self.policies)
        return said.get((port, subset)) or said.get((0, subset)) or _DEFAULT

    def hash_policy(self, port: int, subset: str = "") -> HashPolicy | None:
        """What a consistent hash is computed from, for the routes to that destination."""
        return self.policy(port, subset).load_balancer.hash


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyIndex:
    """HostPolicies by namespace and host pattern (full names)."""

    root_namespace: str = ""
    by_namespace: Mapping[str, Mapping[str, HostPolicy]] = field(default_factory=dict)

    def lookup(self, service: Service, namespace: str) -> HostPolicy | None:
        """The policy that clients in ``namespace`` use for a service.

        Order: client namespace, service namespace, root namespace; in each the exact host before patterns, longest
        first (features row G1; Istio: PushContext.destinationRule).
        """
        own = self._in(namespace, service.host, namespace)
        if own is not None:
            return own
        if (found := self._in(service.namespace, service.host, namespace)) is not None:
            return found
        return self._in(self.root_namespace, service.host, namespace)

    def _in(self, home: str, host: str, client: str) -> HostPolicy | None:
        rules = self.by_namespace.get(home, {})
        seen = {pattern: rule for pattern, rule in rules.items() if home == client or exported(rule.export_to, client)}
        if host in seen:
            return seen[host]
        best = hosts.most_specific((p for p in seen if hosts.is_wildcard(p)), host)
        return seen[best] if best is not None else None

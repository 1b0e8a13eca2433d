"""What is wrong with objects in sight of the rest of the mesh, where this half of the model sees it.

VirtualServices and Gateways have virtual_service_checks. Findings of one object alone come from where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crds import destination_rule
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigSnapshot
from istiod.mesh import hosts
from istiod.mesh.model import Model
from istiod.mesh.workloads import PodWorkload

_NO_KEY = ConfigKey("", "", "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Diagnostics by the part of the mesh that found them, so that an unchanged part need not look again."""

    settings: tuple[Diagnostic, ...] = ()
    sources: tuple[Diagnostic, ...] = ()
    policies: tuple[Diagnostic, ...] = ()
    peers: tuple[Diagnostic, ...] = ()
    cross: tuple[Diagnostic, ...] = ()
    sidecars: tuple[Diagnostic, ...] = ()
    pods: tuple[Diagnostic, ...] = ()
    entries: tuple[Diagnostic, ...] = ()

    def all(self) -> tuple[Diagnostic, ...]:
        """Everything once, in an order that no order of events changes."""
        parts = (
            self.settings,
            self.sources,
            self.policies,
            self.peers,
            self.cross,
            self.sidecars,
            self.pods,
            self.entries,
        )
        unique = {diagnostic: None for part in parts for diagnostic in part}
        return tuple(sorted(unique, key=lambda d: (d.key or _NO_KEY, d.field, d.code.value, d.message)))


def of_pods(
    before: tuple[Diagnostic, ...], pods: Mapping[tuple[str, str], PodWorkload], touched: frozenset[tuple[str, str]]
) -> tuple[Diagnostic, ...]:
    """Findings about pods, by namespace and name; only the touched ones are looked at."""
    if not touched:
        return before
    kept = (one for one in before if one.key and (one.key.namespace, one.key.name) not in touched)
    fresh = (one for name in sorted(touched & pods.keys()) for one in pods[name].diagnostics)
    return (*kept, *fresh)


def cross(snapshot: ConfigSnapshot, model: Model) -> Iterator[Diagnostic]:
    """Findings about DestinationRules."""
    found = snapshot.of(NETWORKING, "DestinationRule").values()
    for rule in (one for one in found if isinstance(one, destination_rule.DestinationRule)):
        namespace = rule.metadata.namespace
        host = hosts.resolve(rule.spec.host.lower(), namespace, model.settings.dns_domain)
        if not _serves(model, host, namespace):
            message = f"no service that {namespace} sees has the host {host!r}"
            yield warning(Code.UNKNOWN_HOST, rule.key, "spec.host", message)
        yield from _hashes(model, rule, host)


def _hashes(model: Model, rule: destination_rule.DestinationRule, host: str) -> Iterator[Diagnostic]:
    """Hashes of what TCP connections do not have: of them only the client's address can be hashed."""
    hashing = [(path, number) for path, number, said in _balancers(rule) if _of_requests(said)]
    served = [s for s in model.registry.services if hosts.matches(host, s.host)] if hashing else []
    for path, number in hashing:
        ports = ((s, p.number) for s in served for p in s.ports if p.protocol.is_tcp and number in (0, p.number))
        if (opaque := next(ports, None)) is not None:
            message = f"has no effect on TCP, such as port {opaque[1]} of {opaque[0].host}: only useSourceIp has"
            yield warning(Code.NOT_SUPPORTED, rule.key, f"{path}.loadBalancer.consistentHash", message)


_Balancer = tuple[str, int, destination_rule.LoadBalancerSettings | None]


def _balancers(rule: destination_rule.DestinationRule) -> Iterator[_Balancer]:
    """Each policy's path, its port (0: all ports), and how it picks endpoints."""
    policies = [("spec.trafficPolicy", rule.spec.traffic_policy)]
    policies += [(f"spec.subsets[{i}].trafficPolicy", one.traffic_policy) for i, one in enumerate(rule.spec.subsets)]
    for path, policy in policies:
        if policy is not None:
            yield path, 0, policy.load_balancer
            for i, own in enumerate(policy.port_level_settings):
                yield f"{path}.portLevelSettings[{i}]", own.port.number if own.port else 0, own.load_balancer


def _of_requests(said: destination_rule.LoadBalancerSettings | None) -> bool:
    return said is not None and said.consistent_hash is not None and not said.consistent_hash.use_source_ip


def _serves(model: Model, host: str, namespace: str) -> bool:
    if not hosts.is_wildcard(host):
        return model.registry.find(host, namespace) is not None
    return any(hosts.matches(host, service.host) for service in model.registry.services)

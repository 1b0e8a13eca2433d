"""Which DestinationRule speaks for a host, and its traffic policy per port and subset, merged (features rows G1-G3).

Turning fields into policies is traffic_policy.py's; clusters.py uses the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from crds import destination_rule as api
from crds import unhonoured
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import NETWORKING
from istiod.config.origin import Origin
from istiod.config.store import ConfigSnapshot
from istiod.mesh import conditions, creation, hosts, traffic_policy
from istiod.mesh.policy import HashPolicy, LbAlgorithm, TrafficPolicy
from istiod.mesh.registry import audience, exported
from istiod.mesh.service import Labels, Service
from istiod.mesh.settings import MeshSettings

_DEFAULT = TrafficPolicy()
_ALL_PORTS = 0
_WHOLE_HOST = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A named part of a host's endpoints: those that carry ``labels``."""

    name: str
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    """Everything the DestinationRules of one host in one namespace say, merged.

    ``policies`` holds the merged policy by (port, subset): port 0 is every port without settings of its own, subset ""
    is the whole host. ``selector`` is the id of the clients' labels that it is for (conditions.selector_id), if any.
    """

    origin: Origin
    host: str
    export_to: frozenset[str]
    selector: str = ""
    subsets: tuple[Subset, ...] = ()
    policies: tuple[tuple[tuple[int, str], TrafficPolicy], ...] = ()
    _by_place: Mapping[tuple[int, str], TrafficPolicy] = field(init=False, repr=False, compare=False)
    """``policies`` again: each cluster of each port and subset asks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_place", dict(self.policies))

    def subset(self, name: str) -> Subset | None:
        """The subset of that name, or None."""
        return next((s for s in self.subsets if s.name == name), None)

    def policy(self, port: int, subset: str = _WHOLE_HOST) -> TrafficPolicy:
        """The policy of a service port, of the whole host or of a subset."""
        said = self._by_place
        return said.get((port, subset)) or said.get((_ALL_PORTS, subset)) or _DEFAULT

    def hash_policy(self, port: int, subset: str = _WHOLE_HOST) -> HashPolicy | None:
        """What a consistent hash is computed from, for the routes to that destination."""
        return self.policy(port, subset).load_balancer.hash


ByHost = Mapping[str, tuple[HostPolicy, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyIndex:
    """HostPolicies by namespace and host pattern (full names).

    Several of one host in one namespace differ in whom they are exported to; the oldest that a client sees serves.
    ``patterns`` are the wildcard hosts of each namespace, most specific first. ``passing`` are the hosts that some
    policy balances with PASSTHROUGH: their clients keep the original destination. ``selecting`` are those for some
    workloads of their own namespace only: they are in force in what ``of_clients`` gives.
    """

    root_namespace: str = ""
    by_namespace: Mapping[str, ByHost] = field(default_factory=dict)
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    selecting: Mapping[str, tuple[HostPolicy, ...]] = field(default_factory=dict)

    def all(self) -> Iterator[HostPolicy]:
        """Every policy."""
        for home in self.by_namespace.values():
            for rules in home.values():
                yield from rules
        for selecting in self.selecting.values():
            yield from selecting

    def matched(self, namespace: str, labels: Mapping[str, str]) -> frozenset[str]:
        """Ids of the selectors in a namespace that hold for a workload's labels."""
        ids = {rule.selector for rule in self.selecting.get(namespace, ())}
        own = frozenset(f"{name}={value}" for name, value in labels.items()) if ids else frozenset()
        return frozenset(one for one in ids if own.issuperset(one.split(",")))

    def of_clients(self, namespace: str, selectors: Iterable[str]) -> PolicyIndex:
        """The index as clients of a namespace see it for whom these selectors hold; itself where that is the same.

        A policy for some workloads comes before those for all, and replaces them (Istio: SidecarScope.DestinationRule).
        """
        held = frozenset(selectors)
        chosen = [rule for rule in self.selecting.get(namespace, ()) if rule.selector in held]
        if not chosen:
            return self
        home: dict[str, tuple[HostPolicy, ...]] = {}
        for rule in (*chosen, *(one for several in self.by_namespace.get(namespace, {}).values() for one in several)):
            home[rule.host] = (*home.get(rule.host, ()), rule)
        return replace(
            self,
            by_namespace={**self.by_namespace, namespace: home},
            patterns={**self.patterns, namespace: _wildcards(home)},
        )

    def lookup(self, service: Service, namespace: str) -> HostPolicy | None:
        """The policy that clients in ``namespace`` use for a service.

        Order: client namespace, service namespace, root namespace; in each the exact host before patterns, longest
        first. Clients of the root namespace start with the rules that are exported to nobody else, so that mesh-wide
        defaults do not hide what a service's own namespace says (features row G1; Istio: PushContext.destinationRule).
        """
        if namespace == self.root_namespace:
            own = self._in(namespace, service.host, lambda rule: rule.export_to == frozenset({namespace}))
        else:
            own = self._exported(namespace, service, namespace)
        return (
            own
            or self._exported(service.namespace, service, namespace)
            or self._exported(self.root_namespace, service, namespace)
        )

    def _exported(self, home: str, service: Service, client: str) -> HostPolicy | None:
        return self._in(home, service.host, lambda rule: exported(rule.export_to, client))

    def _in(self, home: str, host: str, usable: Callable[[HostPolicy], bool]) -> HostPolicy | None:
        rules = self.by_namespace.get(home)
        if not rules:
            return None
        if (exact := next(filter(usable, rules.get(host, ())), None)) is not None:
            return exact
        patterns = (p for p in self.patterns.get(home, ()) if hosts.matches(p, host))
        return next((rule for pattern in patterns for rule in rules[pattern] if usable(rule)), None)


def build(
    snapshot: ConfigSnapshot, settings: MeshSettings, previous: PolicyIndex | None = None
) -> tuple[PolicyIndex, tuple[Diagnostic, ...]]:
    """The index of a snapshot, with findings. Policies that did not change are the same objects as in ``previous``."""
    rules = [r for r in snapshot.of(NETWORKING, "DestinationRule").values() if isinstance(r, api.DestinationRule)]
    rules.sort(key=_age)
    groups: dict[tuple[str, str, frozenset[str], str], list[api.DestinationRule]] = {}
    findings: list[Diagnostic] = []
    for rule in rules:
        findings += _unsupported(rule)
        namespace = rule.metadata.namespace
        host = hosts.resolve(rule.spec.host.lower(), namespace, settings.dns_domain)
        selector = rule.spec.workload_selector
        only = conditions.selector_id(selector.match_labels) if selector else ""
        said = audience(rule.spec.export_to, namespace, settings.destination_rule_export_to)
        readers = frozenset({namespace}) if only else said
        groups.setdefault((namespace, host, readers, only), []).append(rule)
    found: dict[str, dict[str, tuple[HostPolicy, ...]]] = {}
    selecting: dict[str, tuple[HostPolicy, ...]] = {}
    for (namespace, host, readers, only), members in groups.items():
        findings += _duplicates(members)
        new = _known(replace(_merge(host, readers, members), selector=only), namespace, previous)
        if only:
            selecting[namespace] = (*selecting.get(namespace, ()), new)
            continue
        home = found.setdefault(namespace, {})
        home[host] = (*home.get(host, ()), new)
    index = PolicyIndex(
        root_namespace=settings.root_namespace,
        by_namespace=found,
        patterns={namespace: _wildcards(home) for namespace, home in found.items()},
        selecting=selecting,
    )
    return replace(index, passing=frozenset(p.host for p in index.all() if _passes(p))), tuple(findings)


def _known(new: HostPolicy, namespace: str, previous: PolicyIndex | None) -> HostPolicy:
    """The policy, as the object that it was before where it is the same."""
    if previous is None:
        return new
    old = previous.selecting if new.selector else previous.by_namespace.get(namespace, {})
    return next((p for p in old.get(namespace if new.selector else new.host, ()) if p == new), new)


def _wildcards(home: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(hosts.is_wildcard, home), key=hosts.specificity, reverse=True))


def _passes(found: HostPolicy) -> bool:
    return any(policy.load_balancer.algorithm is LbAlgorithm.PASSTHROUGH for _, policy in found.policies)


def _age(rule: api.DestinationRule) -> creation.Age:
    meta = rule.metadata
    return creation.age(meta.creation_timestamp, meta.name, meta.namespace)


def _merge(host: str, readers: frozenset[str], rules: Iterable[api.DestinationRule]) -> HostPolicy:
    """Rules of one host, oldest first: subsets add up, the first top-level policy holds (mergeDestinationRule)."""
    members = tuple(rules)
    top = next((r.spec.traffic_policy for r in members if r.spec.traffic_policy), None)
    subsets: dict[str, api.Subset] = {}
    for rule in members:
        for subset in rule.spec.subsets:
            subsets.setdefault(subset.name, subset)
    policies = dict(_policies(_WHOLE_HOST, top, None))
    for subset in subsets.values():
        policies.update(_policies(subset.name, top, subset.traffic_policy))
    return HostPolicy(
        origin=Origin(key=members[0].key),
        host=host,
        export_to=readers,
        subsets=tuple(Subset(name=s.name, labels=frozenset(s.labels.items())) for s in subsets.values()),
        policies=tuple(policies.items()),
    )


def _policies(
    subset: str, top: api.TrafficPolicy | None, own: api.TrafficPolicy | None
) -> Iterator[tuple[tuple[int, str], TrafficPolicy]]:
    """Merged policies of a subset, for all ports and for each port that has settings of its own."""
    said = tuple(policy for policy in (top, own) if policy)
    numbers = {p.port.number for policy in said for p in policy.port_level_settings if p.port}
    for port in (_ALL_PORTS, *sorted(numbers)):
        merged = _DEFAULT
        for policy in said:
            merged = _override(merged, policy, port)
        yield (port, subset), merged


def _override(base: TrafficPolicy, said: api.TrafficPolicy, port: int) -> TrafficPolicy:
    """``base`` with what a policy says in its place; port settings replace all four parts, said or not (row G12)."""
    merged = base
    if said.load_balancer:
        merged = replace(merged, load_balancer=traffic_policy.load_balancer(said.load_balancer))
    if said.connection_pool:
        merged = replace(merged, connection_pool=traffic_policy.connection_pool(said.connection_pool))
    if said.outlier_detection:
        merged = replace(merged, outlier_detection=traffic_policy.outlier_detection(said.outlier_detection))
    if said.tls:
        merged = replace(merged, tls=traffic_policy.client_tls(said.tls))
    merged = _override_whole(merged, said)
    own = next((p for p in said.port_level_settings if p.port and p.port.number == port), None)
    if own is None or port == _ALL_PORTS:
        return merged
    return replace(
        merged,
        load_balancer=traffic_policy.load_balancer(own.load_balancer),
        connection_pool=traffic_policy.connection_pool(own.connection_pool),
        outlier_detection=traffic_policy.outlier_detection(own.outlier_detection),
        tls=traffic_policy.client_tls(own.tls),
    )


def _override_whole(base: TrafficPolicy, said: api.TrafficPolicy) -> TrafficPolicy:
    """``base`` with those parts of a policy that no port can have by itself."""
    return replace(
        base,
        proxy_protocol=said.proxy_protocol.version if said.proxy_protocol else base.proxy_protocol,
        retry_budget=traffic_policy.retry_budget(said.retry_budget) if said.retry_budget else base.retry_budget,
        tunnel=traffic_policy.tunnel(said.tunnel) if said.tunnel else base.tunnel,
    )


def _duplicates(rules: Iterable[api.DestinationRule]) -> Iterator[Diagnostic]:
    """What a younger rule of the same host says in vain."""
    first, *others = rules
    names = {s.name: first for s in first.spec.subsets}
    top = first if first.spec.traffic_policy else None
    for rule in others:
        if rule.spec.traffic_policy and top:
            message = f"{top.key} has the traffic policy of {rule.spec.host}; this one has no effect"
            yield warning(Code.DUPLICATE_HOST, rule.key, "spec.trafficPolicy", message)
        top = top or (rule if rule.spec.traffic_policy else None)
        for i, subset in enumerate(rule.spec.subsets):
            if subset.name in names:
                message = f"{names[subset.name].key} has subset {subset.name} of {rule.spec.host}; this has no effect"
                yield warning(Code.DUPLICATE_SUBSET, rule.key, f"spec.subsets[{i}]", message)
            names.setdefault(subset.name, rule)


def _unsupported(rule: api.DestinationRule) -> Iterator[Diagnostic]:
    said = [("spec.trafficPolicy", rule.spec.traffic_policy)]
    said += [(f"spec.subsets[{i}].trafficPolicy", s.traffic_policy) for i, s in enumerate(rule.spec.subsets)]
    for path, policy in said:
        selects = rule.spec.workload_selector is not None
        for field_path, reason in traffic_policy.without_effect(policy, selects=selects) if policy else ():
            yield warning(Code.NOT_SUPPORTED, rule.key, f"{path}.{field_path}", reason)
    yield from unhonoured.findings(rule)

"""Rules of VirtualServices that the compiled mesh never follows, or follows into nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from istiod.analysis import catalogue, compiled, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource
from istiod.mesh import conditions
from istiod.mesh.conditions import Condition, Source
from istiod.mesh.http_rules import HttpRule, Share
from istiod.mesh.model import Model
from istiod.mesh.route import MatchKind, RouteMatch, StringMatch


def _shadowed(known: Collection) -> Iterator[Message]:
    for rules in compiled.mesh(known).virtual_services.by_key.values():
        resource = compiled.resource_of(known, rules.key)
        earlier = _Earlier()
        for number, rule in enumerate(rules.http):
            before = _hiding(earlier, rule)
            earlier.add(rule)
            if before is not None and resource is not None and rule.origin.key == rules.key:
                values = (rule.origin.field or f"rule {number}", before.origin.field)
                yield message.of_field(catalogue.SHADOWED, resource, *values, field=rule.origin.field)


@dataclass(slots=True)
class _Earlier:
    """Rules by the paths of their conditions, so that of many only those are looked at that might cover another."""

    rules: list[HttpRule] = field(default_factory=list)
    _any: list[int] = field(default_factory=list)
    _by_path: dict[str, list[int]] = field(default_factory=dict)
    """By what stands in the comparison, without regard to case."""

    def add(self, rule: HttpRule) -> None:
        """One more."""
        number = len(self.rules)
        self.rules.append(rule)
        for path in {one.match.path for one in rule.conditions}:
            if path is None:
                self._any.append(number)
            else:
                self._by_path.setdefault(path.value.casefold(), []).append(number)

    def first(self, wanted: Condition) -> HttpRule | None:
        """The first that takes all requests of a condition."""
        for rule in (self.rules[number] for number in sorted(set(self._near(wanted.match.path)))):
            if any(_covers(one, wanted) for one in rule.conditions):
                return rule
        return None

    def _near(self, path: StringMatch | None) -> Iterator[int]:
        yield from self._any
        if path is not None:
            value = path.value.casefold()
            for end in range(len(value) + 1):
                yield from self._by_path.get(value[:end], ())


def _hiding(earlier: _Earlier, rule: HttpRule) -> HttpRule | None:
    """The rule that takes the last of the requests; what is equal or catches all is told by other codes."""
    wanted = rule.conditions
    if not wanted:
        return None
    hiding = None
    for one in wanted:
        found = earlier.first(one)
        if found is None or any(c == one or c.catches_all for c in found.conditions):
            return None
        hiding = found
    return hiding


def _covers(one: Condition, other: Condition) -> bool:
    """Whether each request that the other matches is matched by the one: sure cases only."""
    return _covers_clients(one.source, other.source) and _covers_request(one.match, other.match)


def _covers_clients(one: Source, other: Source) -> bool:
    if one.gateways and not (other.gateways and set(other.gateways) <= set(one.gateways)):
        return False
    said = ((one.selector, other.selector), (one.namespace, other.namespace), (one.port, other.port))
    return all(not mine or mine == theirs for mine, theirs in said)


def _covers_request(one: RouteMatch, other: RouteMatch) -> bool:
    if one.path is not None and (other.path is None or not _covers_path(one.path, other.path)):
        return False
    return (
        set(one.headers) <= set(other.headers)
        and set(one.query) <= set(other.query)
        and set(one.claims) <= set(other.claims)
    )


def _covers_path(one: StringMatch, other: StringMatch) -> bool:
    if one == other:
        return True
    mine, theirs = (each.value.lower() if one.ignore_case else each.value for each in (one, other))
    if other.ignore_case and not one.ignore_case:
        return False
    if one.kind is MatchKind.PREFIX and other.kind in (MatchKind.PREFIX, MatchKind.EXACT):
        return theirs.startswith(mine)
    return one.kind is other.kind is MatchKind.EXACT and mine == theirs


def _empty(known: Collection) -> Iterator[Message]:
    """Destinations with a share of the requests whose subset no server belongs to."""
    found = compiled.mesh(known)
    for rules in found.virtual_services.by_key.values():
        resource = compiled.resource_of(known, rules.key)
        if resource is None:
            continue
        groups = (*(one.shares for one in rules.http), *(one.shares for one in (*rules.tls, *rules.tcp)))
        for shares in groups:
            for share in shares:
                if share.origin.key == rules.key and (share.weight or len(shares) == 1):
                    yield from _unserved(known, found.model, resource, share)


def _unserved(known: Collection, model: Model, resource: Resource, share: Share) -> Iterator[Message]:
    target = share.target
    service = model.registry.find(target.host, resource.namespace) if target.subset else None
    policy = model.policies.lookup(service, resource.namespace) if service is not None else None
    subset = policy.subset(target.subset) if policy is not None else None
    if service is None or subset is None:
        return
    leaf = model.declared.leaves.get((service.host, service.namespace))
    labels = [server.labels for server in compiled.servers(known, service)]
    labels += [each.labels for port in (leaf.ports.values() if leaf else ()) for each in port]
    if labels and not any(subset.labels <= own for own in labels):
        values = (target.host, target.subset, ",".join(sorted(f"{key}={value}" for key, value in subset.labels)))
        yield message.of_field(catalogue.EMPTY_SUBSET, resource, *values, field=f"{share.origin.field}.subset")


def _protocols(known: Collection) -> Iterator[Message]:
    """HTTP rules for hosts that have no port on which they could apply."""
    found = compiled.mesh(known)
    for rules in found.virtual_services.by_key.values():
        resource = compiled.resource_of(known, rules.key)
        if resource is None or not rules.http or conditions.MESH not in rules.gateways:
            continue
        for host in rules.hosts:
            service = found.model.registry.find(host, rules.key.namespace)
            if service is not None and service.ports and not any(p.protocol.may_be_http for p in service.ports):
                ports = ", ".join(f"{port.number} {port.protocol.value}" for port in service.ports)
                yield message.of_field(catalogue.HTTP_ON_TCP, resource, host, ports, field="spec.http")


def _all(known: Collection) -> Iterator[Message]:
    yield from _shadowed(known)
    yield from _empty(known)
    yield from _protocols(known)


ANALYZER: Final = Analyzer(
    name="mesh.RouteAnalyzer",
    description="Checks for routes that no request reaches, or that lead to no server, in the compiled mesh",
    run=_all,
)

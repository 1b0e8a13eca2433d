"""Where VirtualServices send requests: hosts, ports and subsets that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from istiod.analysis import audience, catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.audience import Service, Services
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource, Steps
from istiod.mesh import hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Destination:
    """One destination; ``way`` leads to it."""

    way: Steps
    said: fields.Record
    mirror: bool = False

    @property
    def host(self) -> str:
        return fields.text(self.said, "host")

    @property
    def subset(self) -> str:
        return fields.text(self.said, "subset")

    @property
    def at(self) -> Steps:
        """The field whose line is shown."""
        return (*self.way, "host")


def _destinations(rules: Resource) -> Iterator[_Destination]:
    for kind in ("tcp", "tls", "http"):
        for i, route in enumerate(fields.records(rules.spec, kind)):
            for j, each in enumerate(fields.records(route, "route")):
                way: Steps = ("spec", kind, i, "route", j, "destination")
                yield _Destination(way=way, said=fields.record(each, "destination"))
    for i, route in enumerate(fields.records(rules.spec, "http")):
        if isinstance(fields.dig(route, "mirror"), dict):
            yield _Destination(way=("spec", "http", i, "mirror"), said=fields.record(route, "mirror"), mirror=True)
        for j, each in enumerate(fields.records(route, "mirrors")):
            way = ("spec", "http", i, "mirrors", j, "destination")
            yield _Destination(way=way, said=fields.record(each, "destination"), mirror=True)


def _hosts(known: Collection) -> Iterator[Message]:
    services = Services(known)
    with_subsets = _with_subsets(known)
    for rules in known.of(kinds.VIRTUAL_SERVICE):
        export_to = fields.texts(rules.spec, "exportTo")
        for each in _destinations(rules):
            service = services.find(each.host, rules.namespace, export_to)
            if service is None:
                what = "mirror host" if each.mirror else "host"
                yield message.make(catalogue.NOT_FOUND, rules, what, each.host, at=each.at)
            else:
                yield from _ports(rules, each, service)
        yield from _ignored(rules, with_subsets)


def _ports(rules: Resource, each: _Destination, service: Service) -> Iterator[Message]:
    if "port" not in each.said:
        if len(service.ports) > 1:
            yield message.make(catalogue.PORT_REQUIRED, rules, each.host, list(service.ports), at=each.at)
        return
    number = fields.number(each.said, "port", "number")
    if number not in service.ports:
        yield message.make(catalogue.NOT_FOUND, rules, "host:port", f"{each.host}:{number}", at=each.at)


def _with_subsets(known: Collection) -> dict[str, list[Resource]]:
    """The VirtualServices that send requests for a host to its subsets, once for each such destination."""
    found: dict[str, list[Resource]] = {}
    for rules in known.of(kinds.VIRTUAL_SERVICE):
        own = set(fields.texts(rules.spec, "hosts"))
        for route in fields.records(rules.spec, "http"):
            for each in fields.records(route, "route"):
                host = fields.text(each, "destination", "host")
                if fields.text(each, "destination", "subset") and host in own:
                    found.setdefault(host, []).append(rules)
    return found


def _ignored(rules: Resource, with_subsets: dict[str, list[Resource]]) -> Iterator[Message]:
    """Rules of others that a gateway does not follow: it goes to the host's endpoints itself."""
    if not fields.dig(rules.spec, "gateways"):
        return
    for route in fields.records(rules.spec, "http"):
        for each in fields.records(route, "route"):
            if fields.text(each, "destination", "subset"):
                continue
            for other in with_subsets.get(fields.text(each, "destination", "host"), ()):
                yield message.make(catalogue.INGRESS_IGNORES_SUBSET, rules, other.full_name, rules.full_name)


def _subsets(known: Collection) -> Iterator[Message]:
    suffix = f".svc.{known.domain}"
    defined = {
        (_named(fields.text(rule.spec, "host"), rule.namespace, suffix), fields.text(subset, "name"))
        for rule in known.of(kinds.DESTINATION_RULE)
        for subset in fields.records(rule.spec, "subsets")
    }
    for rules in known.of(kinds.VIRTUAL_SERVICE):
        for each in _destinations(rules):
            if each.subset and (_named(each.host, rules.namespace, suffix), each.subset) not in defined:
                what = f"{'mirror' if each.mirror else 'host'}+subset in destinationrule"
                yield message.make(catalogue.NOT_FOUND, rules, what, f"{each.host}+{each.subset}", at=each.at)


def _named(host: str, namespace: str, suffix: str) -> tuple[str, str]:
    """Namespace and name of a host; one that is no full name of a Service is taken for a short one."""
    name, dot, of = host.removesuffix(suffix).rpartition(".") if host.endswith(suffix) else ("", "", "")
    return (of, name) if dot else (namespace, host)


def _conflicts(known: Collection) -> Iterator[Message]:
    speaking: dict[tuple[str, str], list[Resource]] = {}
    for rules in known.of(kinds.VIRTUAL_SERVICE):
        gateways = fields.texts(rules.spec, "gateways")
        if gateways and "mesh" not in gateways:
            continue
        for scope in audience.scopes(fields.texts(rules.spec, "exportTo"), rules.namespace):
            for host in fields.texts(rules.spec, "hosts"):
                full = audience.full(host, rules.namespace, known.domain)
                speaking.setdefault((scope, full), []).append(rules)
    common = {host: some for (scope, host), some in speaking.items() if scope == audience.EVERYWHERE}
    patterns = [host for host in common if hosts.is_wildcard(host)]
    for (scope, host), some in speaking.items():
        several = dict.fromkeys(some)
        if scope != audience.EVERYWHERE:
            near: Iterable[str] = common if hosts.is_wildcard(host) else (host, *patterns)
            seen = (common[each] for each in near if each in common and _overlap(each, host))
            several |= dict.fromkeys(each for one in seen for each in one)
        rivals = sorted(several, key=lambda each: each.full_name)
        names = ",".join(each.full_name for each in rivals)
        for each in rivals if len(rivals) > 1 else ():
            yield message.make(catalogue.CONFLICTING_HOSTS, each, names, f"{scope}/{host}", at=("metadata", "name"))


def _overlap(one: str, other: str) -> bool:
    return hosts.matches(one, other) or hosts.matches(other, one)


HOSTS: Final = Analyzer(
    name="virtualservice.DestinationHostAnalyzer",
    description="Checks the destination hosts associated with each virtual service",
    run=_hosts,
)
SUBSETS: Final = Analyzer(
    name="virtualservice.DestinationRuleAnalyzer",
    description="Checks the destination rules associated with each virtual service",
    run=_subsets,
)
CONFLICTS: Final = Analyzer(
    name="virtualservice.ConflictingMeshGatewayHostsAnalyzer",
    description="Checks if multiple virtual services associated with the mesh gateway have conflicting hosts",
    run=_conflicts,
)

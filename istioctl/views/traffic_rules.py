"""``x describe``: what DestinationRules and VirtualServices do for a Service and its pods, as Istio's command says it.

Lines without their ends. Which rule a proxy uses for a Service is read from its dump by the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crds import virtual_service as api
from crds.destination_rule import DestinationRule, PortTrafficPolicy, TrafficPolicy
from istioctl.views.pods import called
from istiod.mesh import hosts

ONE, TWO = "   ", "      "
"""Indents of what stands below."""
_DEEP: Final = "    "

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A Service as rules lead to it, with the rule of its subsets."""

    host: str
    domain: str
    rule: DestinationRule | None = None
    matching: tuple[str, ...] = ()
    """Subsets to which a described pod belongs."""
    others: tuple[str, ...] = ()


def target(host: str, domain: str, rule: DestinationRule | None, pods: Sequence[Labels]) -> Target:
    """A Service, and of its rule's subsets which have one of the pods."""
    matching: list[str] = []
    others: list[str] = []
    for subset in rule.spec.subsets if rule else ():
        fits = any(subset.labels.items() <= labels.items() for labels in pods)
        (matching if fits else others).append(subset.name)
    return Target(host=host, domain=domain, rule=rule, matching=tuple(matching), others=tuple(others))


def destination_rule(to: Target, here: str) -> Iterator[str]:
    """Subsets and policies of the Service's rule; nothing where there is none."""
    if to.rule is None:
        return
    yield f'DestinationRule: {called(to.rule, here)} for "{to.rule.spec.host}"'
    others = ",".join(to.others)
    if to.rule.spec.subsets:
        if not to.matching:
            yield f"{ONE}WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets {others})"
        yield f"{ONE}Matching subsets: {','.join(to.matching)}"
        if others:
            yield f"{TWO}(Non-matching subsets {others})"
    policy = to.rule.spec.traffic_policy
    yield from [f"{ONE}No Traffic Policy"] if policy is None else _traffic_policy(policy)


def _traffic_policy(policy: TrafficPolicy) -> Iterator[str]:
    if policy.tls:
        yield f"{ONE}Traffic Policy TLS Mode: {policy.tls.mode}"
    yield from (f"{ONE}{each}" for each in _brief(policy))
    if policy.port_level_settings:
        yield f"{ONE}Port Level Settings:"
    for each in policy.port_level_settings:
        yield f"{_DEEP}{each.port.number if each.port else 0}:"
        if each.tls:
            yield f"{TWO}TLS Mode: {each.tls.mode}"
        yield from (f"{TWO}{line}" for line in _brief(each))


def _brief(policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[str]:
    said = (
        (policy.load_balancer, "load balancer"),
        (policy.connection_pool, "connection pool"),
        (policy.outlier_detection, "outlier detection"),
    )
    if found := [name for value, name in said if value is not None]:
        yield f"Policies: {'/'.join(found)}"


def virtual_service(item: api.VirtualService, to: Target, here: str) -> Iterator[str]:
    """Which routes lead to the pods, and under which conditions."""
    yield f"VirtualService: {called(item, here)}"
    found = [*(_http(item, each, to) for each in item.spec.http), *(_tcp(item, each, to) for each in item.spec.tcp)]
    hits = [facts for reaches, facts in found if reaches]
    misses = [fact for reaches, facts in found if not reaches for fact in facts]
    said = [fact for facts in hits for fact in facts]
    yield from (f"{ONE}{fact}" for fact in said)
    kinds = [(name, len(routes)) for name, routes in (("HTTP", item.spec.http), ("TCP", item.spec.tcp)) if routes]
    if not hits:
        checked = (f"checked {count} {name} routes" for name, count in kinds)
        yield from (f"{ONE}WARNING: No destinations match pod subsets ({each})" for each in checked)
        yield from (f"{TWO}{each}" for each in misses)
        return
    possible = len(found) + len(item.spec.tls)
    if len(hits) < possible:
        yield f"{ONE}{possible - len(hits)} additional destination(s) that will not reach this pod"
        yield from (f"{TWO}{each}" for each in misses if not said)
    elif not said:
        yield from (f"{ONE}{count} {name} route(s)" for name, count in kinds)


def leads_to(item: api.VirtualService, host: str, domain: str) -> bool:
    """Whether any of the routes leads to a host."""
    http = (each.destination for route in item.spec.http for each in route.route)
    tls = (each.destination for route in item.spec.tls for each in route.route)
    tcp = (each.destination for route in item.spec.tcp for each in route.route)
    return any(_is(each, item, host, domain) for each in (*http, *tls, *tcp))


def _is(to: api.Destination | None, item: api.VirtualService, host: str, domain: str) -> bool:
    return to is not None and hosts.resolve(to.host, item.metadata.namespace, domain) == host


def _http(item: api.VirtualService, route: api.HTTPRoute, to: Target) -> tuple[bool, list[str]]:
    """Whether a route leads to the pods, and what is to be said of it."""
    facts: list[str] = []
    misses: list[str] = []
    reaches = False
    for each in route.route:
        if not _is(each.destination, item, to.host, to.domain):
            facts += _elsewhere(each)
        elif (miss := _missed(each, route, to)) is not None:
            misses.append(miss)
        else:
            reaches = True
            facts += _weighted(each)
    if reaches:
        conditions = [*_fault(route.fault), *map(_match, route.match)]
        return True, [*facts, *([", ".join(conditions)] if conditions else [])]
    return False, [*facts, *misses]


def _elsewhere(each: api.HTTPRouteDestination) -> list[str]:
    to = each.destination or api.Destination()
    subset = f' subset "{to.subset}"' if to.subset else ""
    return [f'Route to host "{to.host}"{subset} with weight {each.weight}%']


def _weighted(each: api.HTTPRouteDestination) -> list[str]:
    return _elsewhere(each) if each.weight > 0 else []


def _missed(each: api.HTTPRouteDestination, route: api.HTTPRoute, to: Target) -> str | None:
    """Why a destination with the Service's host does not lead to the pods; None where it does."""
    subset = each.destination.subset if each.destination else ""
    if not subset or subset in to.matching:
        return None
    if subset in to.others:
        matches = ", ".join(map(_match, route.match)) or "everything"
        return f"Route to non-matching subset {subset} for ({matches})"
    if to.rule is None:
        return f"Warning: Route to subset {subset} but NO DESTINATION RULE defining subsets!"
    return f"Warning: Route to UNKNOWN subset {subset}; check DestinationRule {to.rule.metadata.name}"


def _fault(fault: api.HTTPFaultInjection | None) -> Iterator[str]:
    if fault is None:
        return
    parts = []
    if fault.delay and fault.delay.fixed_delay is not None:
        parts.append(f"delay {fault.delay.fixed_delay.total_seconds():g}s{_share(fault.delay)}")
    if fault.abort:
        parts.append(f"abort {fault.abort.http_status or fault.abort.grpc_status or ''}{_share(fault.abort)}")
    yield f"Fault injection {', '.join(parts)}"


def _share(of: api.Delay | api.Abort) -> str:
    return f" for {of.percentage.value:g}%" if of.percentage else ""


def _tcp(item: api.VirtualService, route: api.TCPRoute, to: Target) -> tuple[bool, list[str]]:
    reaches = any(_is(each.destination, item, to.host, to.domain) for each in route.route)
    return reaches, [fact for each in route.match if reaches and (fact := _connection(each))]


def _connection(match: api.L4MatchAttributes) -> str:
    said = (
        ("port", str(match.port or "")),
        ("destination subnets", ", ".join(match.destination_subnets)),
        ("source labels", _labels(match.source_labels)),
    )
    return "; ".join(f"{name} {value}" for name, value in said if value)


def _labels(labels: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _match(match: api.HTTPMatchRequest) -> str:
    """Path and headers, as Istio's command shows them; other conditions it leaves to the object."""
    found = "Match: " + (_string(match.uri) if match.uri else "")
    if match.uri and match.ignore_uri_case:
        found += " uncased"
    headers = [f"{name}={_string(value)}" for name, value in sorted(match.headers.items())]
    return (found + (f" when headers are {'; '.join(headers)}" if headers else "")).strip()


def _string(match: api.StringMatch) -> str:
    if match.exact is not None:
        return match.exact
    return f"{match.prefix}*" if match.prefix is not None else f'regex:"{match.regex or ""}"'


def indented(lines: Iterable[str], indent: str) -> Iterator[str]:
    """Lines further to the right."""
    return (f"{indent}{line}" for line in lines)

"""VirtualService: hosts, gateways and the rules of TLS and TCP (features rows F1, F17, F18)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from crds.checks import gateways, http_route, labels, values, visibility
from crds.checks.findings import Findings
from crds.checks.patterns import Patterns
from crds.diagnostic import Code
from crds.virtual_service import (
    Destination,
    HTTPRoute,
    HTTPRouteDestination,
    L4MatchAttributes,
    RouteDestination,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)

_MESH: Final = "mesh"
_OF_PORT: Final = re.compile(r"outbound_[^_]*[0-9][^_]*_[^_]*_[^_]*[A-Za-z]")
"""How the name of a port of a service begins where a gateway passes it through: ``outbound_.80_._.host``."""


def check(item: VirtualService, found: Findings) -> None:
    """Everything that one VirtualService can be wrong about."""
    spec = item.spec
    is_delegate = not spec.hosts
    visibility.check(found, spec.export_to)
    if is_delegate:
        _delegate(spec, found)
    else:
        _hosts(spec, found)
        gateways.check(found, "spec.gateways", spec.gateways)
    if not (spec.http or spec.tls or spec.tcp):
        found.error("spec", "http, tls or tcp must be given", Code.MISSING_FIELD)
    for index, route in enumerate(spec.http):
        field = f"spec.http[{index}]"
        http_route.check(found, field, route, is_delegate=is_delegate, gateways=spec.gateways)
        destinations(found, field, route.route)
        _mirrors(found, field, route)
    patterns = Patterns(spec.hosts if spec.tls else ())
    for index, tls in enumerate(spec.tls):
        _tls(found, f"spec.tls[{index}]", tls, spec, patterns)
    for index, tcp in enumerate(spec.tcp):
        field = f"spec.tcp[{index}]"
        for place, match in enumerate(tcp.match):
            _l4(found, f"{field}.match[{place}]", match)
        _required(found, field, tcp.route)


def destinations(found: Findings, field: str, routes: Sequence[HTTPRouteDestination | RouteDestination]) -> None:
    """Weights are not negative, and do not add up to 0 where there is a choice (S80)."""
    for index, route in enumerate(routes):
        place = f"{field}.route[{index}]"
        if route.weight < 0:
            found.error(f"{place}.weight", f"weight {route.weight} is negative", Code.WEIGHT_SUM)
        destination(found, f"{place}.destination", route.destination)
    if len(routes) > 1 and sum(route.weight for route in routes) == 0:
        found.error(f"{field}.route", "the weights of all destinations add up to 0", Code.WEIGHT_SUM)


def _mirrors(found: Findings, field: str, route: HTTPRoute) -> None:
    if route.mirror is not None:
        destination(found, f"{field}.mirror", route.mirror)
    for index, mirror in enumerate(route.mirrors):
        destination(found, f"{field}.mirrors[{index}].destination", mirror.destination)


def destination(found: Findings, field: str, target: Destination | None) -> None:
    """A destination has a host without wildcard, a plain subset name, and a real port."""
    if target is None or not target.host:
        found.missing(field if target is None else f"{field}.host")
        return
    found.check(f"{field}.host", _destination_host(target.host))
    if target.subset and not values.is_label(target.subset):
        found.error(f"{field}.subset", f"{target.subset!r} is no subset name")
    if target.port is not None:
        found.check(f"{field}.port.number", values.port(target.port.number))


def _destination_host(host: str) -> str | None:
    return "host * is no destination" if host == "*" else values.wildcard_domain(host)


def _delegate(spec: VirtualServiceSpec, found: Findings) -> None:
    for field in ("gateways", "tcp", "tls"):
        if getattr(spec, field):
            found.error(f"spec.{field}", f"without hosts this is a delegate, and a delegate has no {field}")


def _hosts(spec: VirtualServiceSpec, found: Findings) -> None:
    in_mesh = not spec.gateways or _MESH in spec.gateways
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*" and in_mesh:
            found.error(field, "host * needs a gateway: for the mesh it would take all traffic")
        elif not values.is_address(host) and not _is_of_port(spec, host):
            found.check(field, values.wildcard_domain(host))
    for index, other in Patterns(spec.hosts).overlaps():
        message = f"{spec.hosts[index]} and {spec.hosts[other]} overlap"
        found.error(f"spec.hosts[{index}]", message, Code.DUPLICATE_HOST)


def _required(found: Findings, field: str, routes: Sequence[RouteDestination]) -> None:
    if not routes:
        found.missing(f"{field}.route")
    destinations(found, field, routes)


def _is_of_port(spec: VirtualServiceSpec, host: str) -> bool:
    """Whether a host is a server name that the mesh itself makes, for gateways between networks."""
    of_gateway = (
        bool(spec.gateways)
        and _MESH not in spec.gateways
        and any(match.sni_hosts for route in spec.tls for match in route.match)
    )
    return of_gateway and _OF_PORT.match(host) is not None


def _tls(found: Findings, field: str, route: TLSRoute, spec: VirtualServiceSpec, hosts: Patterns) -> None:
    if not route.match:
        found.missing(f"{field}.match")
    for index, match in enumerate(route.match):
        place = f"{field}.match[{index}]"
        _l4(found, place, match)
        if not match.sni_hosts:
            found.missing(f"{place}.sniHosts")
        for number, name in enumerate(match.sni_hosts):
            _sni(found, f"{place}.sniHosts[{number}]", name, spec, hosts)
    _required(found, field, route.route)


def _sni(found: Findings, field: str, name: str, spec: VirtualServiceSpec, hosts: Patterns) -> None:
    if values.is_address(name):
        found.warning(field, f"{name} is an address, which clients do not send as a server name")
        return
    problem = None if name == "*" or _is_of_port(spec, name) else values.dotted_wildcard(name)
    found.check(field, problem)
    if problem is not None or hosts.covers(name):
        return
    message = f"{name} is covered by none of spec.hosts"
    if any(name.startswith(f"{host}.{found.key.namespace}.") for host in spec.hosts):
        found.warning(field, f"{message}: write the full name there, too")
    else:
        found.refuse(field, message)


def _l4(found: Findings, field: str, match: TLSMatchAttributes | L4MatchAttributes) -> None:
    for index, block in enumerate(match.destination_subnets):
        found.check(f"{field}.destinationSubnets[{index}]", values.subnet(block))
    if match.port:
        found.check(f"{field}.port", values.port(match.port))
    labels.check(found, f"{field}.sourceLabels", match.source_labels)
    gateways.check(found, f"{field}.gateways", match.gateways)

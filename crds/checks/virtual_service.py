"""VirtualService: hosts, gateways and the rules of TLS and TCP (features rows F1, F17, F18)."""

from __future__ import annotations

from collections.abc import Sequence

from crds.checks import http_route, values, visibility
from crds.checks.findings import Findings
from crds.checks.patterns import Patterns
from crds.diagnostic import Code
from crds.virtual_service import (
    Destination,
    HTTPRouteDestination,
    L4MatchAttributes,
    RouteDestination,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)

_MESH = "mesh"


def check(item: VirtualService, found: Findings) -> None:
    """Everything that one VirtualService can be wrong about."""
    spec = item.spec
    is_delegate = not spec.hosts
    visibility.check(found, spec.export_to)
    if is_delegate:
        _delegate(spec, found)
    else:
        _hosts(spec, found)
        _gateways(spec.gateways, found)
    if not (spec.http or spec.tls or spec.tcp):
        found.error("spec", "http, tls or tcp must be given", Code.MISSING_FIELD)
    for index, route in enumerate(spec.http):
        field = f"spec.http[{index}]"
        http_route.check(found, field, route, is_delegate=is_delegate, gateways=spec.gateways)
        destinations(found, field, route.route)
    patterns = Patterns(spec.hosts if spec.tls else ())
    for index, tls in enumerate(spec.tls):
        _tls(found, f"spec.tls[{index}]", tls, patterns)
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
    if host == "*":
        return "host * is no destination"
    return None if values.is_address(host) else values.wildcard_domain(host)


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
        elif not values.is_address(host):
            found.check(field, values.wildcard_domain(host))
    for index, other in Patterns(spec.hosts).overlaps():
        message = f"{spec.hosts[index]} and {spec.hosts[other]} overlap"
        found.error(f"spec.hosts[{index}]", message, Code.DUPLICATE_HOST)


def _gateways(gateways: Sequence[str], found: Findings) -> None:
    for index, gateway in enumerate(gateways):
        field = f"spec.gateways[{index}]"
        namespace, slash, name = gateway.rpartition("/")
        if not slash and "." in gateway:
            found.warning(field, f"{gateway!r}: the form <namespace>/<name> is preferred")
            found.check(field, values.domain(gateway))
        elif not values.is_label(name) or (slash and namespace != "." and not values.is_label(namespace)):
            found.error(field, f"{gateway!r} is no gateway: <namespace>/<name> or <name>")


def _required(found: Findings, field: str, routes: Sequence[RouteDestination]) -> None:
    if not routes:
        found.missing(f"{field}.route")
    destinations(found, field, routes)


def _tls(found: Findings, field: str, route: TLSRoute, hosts: Patterns) -> None:
    if not route.match:
        found.missing(f"{field}.match")
    for index, match in enumerate(route.match):
        place = f"{field}.match[{index}]"
        _l4(found, place, match)
        if not match.sni_hosts:
            found.missing(f"{place}.sniHosts")
        for number, name in enumerate(match.sni_hosts):
            at = f"{place}.sniHosts[{number}]"
            found.check(at, None if name == "*" else values.dotted_wildcard(name))
            if not hosts.covers(name):
                found.warning(at, f"{name} is covered by none of spec.hosts")
    _required(found, field, route.route)


def _l4(found: Findings, field: str, match: TLSMatchAttributes | L4MatchAttributes) -> None:
    for index, block in enumerate(match.destination_subnets):
        found.check(f"{field}.destinationSubnets[{index}]", values.subnet(block))
    if match.port:
        found.check(f"{field}.port", values.port(match.port))

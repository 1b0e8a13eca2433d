"""What is wrong with VirtualServices and Gateways in sight of the rest of the mesh (diagnostics M0102-M0106, M0110).

Findings about one object alone stand in its index entry already. All checks look from the object's own namespace.
"""

from __future__ import annotations

from collections.abc import Iterator

from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey
from istiod.mesh import conditions, delegation, gateway_routes, gateways, hosts, port_conflicts, registry
from istiod.mesh.gateway_servers import GatewayIndex, Server
from istiod.mesh.http_rules import Copy, Share, Target
from istiod.mesh.model import Model
from istiod.mesh.recall import Recall
from istiod.mesh.service import Resolution, Service
from istiod.mesh.virtual_services import VirtualService, VirtualServiceIndex


def findings(model: Model, index: VirtualServiceIndex, known: GatewayIndex, recall: Recall) -> Iterator[Diagnostic]:
    """Everything there is to say of VirtualServices, Gateways and ports that meet."""
    servers: dict[str, list[Server]] = {}
    for gateway in known.gateways:
        yield from gateway.diagnostics
        servers[f"{gateway.key.namespace}/{gateway.key.name}"] = list(gateway.servers)
    yield from gateways.conflicts(known)
    yield from port_conflicts.findings(model, recall)
    for one in index.by_key.values():
        yield from one.diagnostics
        yield from _destinations(model, one)
        yield from _gateways(one, servers)
        yield from _unserved(model, one)
    yield from _duplicates(index)
    yield from delegation.unused(index.objects)
    yield from _egress_proxies(model)


def _destinations(model: Model, rules: VirtualService) -> Iterator[Diagnostic]:
    """What is wrong with destinations, but for those of delegates, which are told of the delegate itself."""
    shares: list[Share | Copy] = []
    for rule in rules.http:
        shares += (*rule.shares, *rule.mirrors)
    for l4 in (*rules.tls, *rules.tcp):
        shares += l4.shares
    for share in dict.fromkeys(one for one in shares if one.origin.key == rules.key):
        if (problem := _problem(model, rules.key, share.target)) is not None:
            code, field, reason = problem
            yield error(code, rules.key, f"{share.origin.field}.{field}", f"{reason}: requests get 503")


def _egress_proxies(model: Model) -> Iterator[Diagnostic]:
    """Proxies for unknown hosts that Sidecars name and that are not there."""
    for one in model.sidecars.by_key.values():
        if one.egress_proxy and (problem := _problem(model, one.key, one.egress_proxy)):
            code, field, reason = problem
            message = f"{reason}: traffic for unknown hosts goes nowhere"
            yield error(code, one.key, f"spec.outboundTrafficPolicy.egressProxy.{field}", message)


def _problem(model: Model, key: ConfigKey, target: Target) -> tuple[Code, str, str] | None:
    """What keeps a destination that an object names from being reached: code, field and reason; None: nothing."""
    namespace = key.namespace
    service = model.registry.find(target.host, namespace)
    if service is not None and service.resolution is Resolution.ALIAS:
        service = model.registry.find(service.external_name, namespace)
    if service is None:
        return Code.UNKNOWN_HOST, "host", f"no service has the host {target.host!r}"
    if target.port and service.port(target.port) is None:
        return Code.UNKNOWN_HOST, "port.number", f"{service.host} has no port {target.port}"
    if target.subset and not _has_subset(model, service, namespace, target.subset):
        return Code.UNKNOWN_SUBSET, "subset", f"no DestinationRule gives {service.host} a subset {target.subset!r}"
    return None


def _has_subset(model: Model, service: Service, namespace: str, subset: str) -> bool:
    """Whether clients of a namespace have a subset; those that some rule selects count, too."""
    plain = model.policies.lookup(service, namespace)
    some = (one for one in model.policies.selecting.get(namespace, ()) if hosts.matches(one.host, service.host))
    return any(policy is not None and policy.subset(subset) is not None for policy in (plain, *some))


def _gateways(rules: VirtualService, servers: dict[str, list[Server]]) -> Iterator[Diagnostic]:
    """Gateways that do not exist, and hosts that no server of a gateway has."""
    for name in rules.gateways:
        if name == conditions.MESH:
            continue
        if name not in servers:
            yield error(Code.UNKNOWN_GATEWAY, rules.key, "spec.gateways", f"there is no Gateway {name}")
        elif not any(gateway_routes.shared_hosts(server, rules) for server in servers[name]):
            message = f"no server of Gateway {name} has a host of {', '.join(rules.hosts)}"
            yield warning(Code.INEFFECTIVE, rules.key, "spec.hosts", message)


def _duplicates(index: VirtualServiceIndex) -> Iterator[Diagnostic]:
    """Mesh hosts that an older VirtualService of the same audience speaks for already."""
    for host, several in index.by_host.items():
        for place, other in enumerate(several[1:], start=1):
            owner = next((one for one in several[:place] if _meet(one, other) and not _precedes(other, one)), None)
            if owner is not None:
                yield error(
                    Code.DUPLICATE_HOST,
                    other.key,
                    "spec.hosts",
                    f"{owner.key} speaks for {host} already, and is older: these rules do not serve it",
                )


def _precedes(one: VirtualService, other: VirtualService) -> bool:
    """Whether one that is not for everybody counts before one that is, wherever it is seen."""
    return registry.EVERYWHERE in other.export_to and registry.EVERYWHERE not in one.export_to


def _meet(one: VirtualService, other: VirtualService) -> bool:
    """Whether some proxy sees both, and both route the same protocol."""
    everywhere = registry.EVERYWHERE in one.export_to | other.export_to
    seen = bool(one.export_to and other.export_to) and (everywhere or bool(one.export_to & other.export_to))
    return seen and any(a and b for a, b in ((one.http, other.http), (one.tls, other.tls), (one.tcp, other.tcp)))


def _unserved(model: Model, rules: VirtualService) -> Iterator[Diagnostic]:
    """Hosts for sidecars that no service has: such a rule works on port 80, and where its other hosts have services."""
    where = "port 80" if len(rules.hosts) == 1 else "port 80 and to ports of services of its other hosts"
    for host in rules.hosts if conditions.MESH in rules.gateways else ():
        if not _held(model, host) and not (_below(model, host) and not rules.http):
            message = f"no service has the host {host}: its rules serve requests to {where} only"
            yield warning(Code.UNKNOWN_HOST, rules.key, "spec.hosts", message)


def _held(model: Model, host: str) -> bool:
    """Whether a service has the host, or one of the hosts that a pattern means."""
    known = model.registry.by_host
    return host in known or (hosts.is_wildcard(host) and any(hosts.matches(host, name) for name in known))


def _below(model: Model, host: str) -> bool:
    """Whether a service's pattern means the host: TLS and TCP rules of the host serve there."""
    return any(hosts.is_wildcard(name) and hosts.matches(name, host) for name in model.registry.by_host)

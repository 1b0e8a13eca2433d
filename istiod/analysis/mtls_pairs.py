"""Clients and servers that cannot speak to each other: a DestinationRule's TLS, and what the servers ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from istiod.analysis import catalogue, compiled, fields, membership, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.compiled import Server
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection
from istiod.mesh import hosts
from istiod.mesh.destination_rules import HostPolicy
from istiod.mesh.model import Model
from istiod.mesh.policy import ClientTls, MutualTls, TlsMode
from istiod.mesh.registry import EVERYWHERE
from istiod.mesh.service import Port, Protocol, Service

_WITHOUT: Final = frozenset((TlsMode.DISABLE, TlsMode.SIMPLE, TlsMode.MUTUAL))
"""Modes in which a client does not show its identity of the mesh."""


def _run(known: Collection) -> Iterator[Message]:
    model = compiled.mesh(known).model
    for rule in model.policies.all():
        if any(policy.tls for _, policy in rule.policies):
            for service in _meant(model, rule):
                if _speaks(model, rule, service):
                    yield from _pairs(known, model, rule, service)
    if not model.settings.auto_mtls:
        for service in model.registry.services:
            yield from _plain(known, model, service)


def _meant(model: Model, rule: HostPolicy) -> Iterable[Service]:
    if hosts.is_wildcard(rule.host):
        return [each for each in model.registry.services if hosts.matches(rule.host, each.host)]
    return model.registry.by_host.get(rule.host, ())


def _speaks(model: Model, rule: HostPolicy, service: Service) -> bool:
    """Whether some client follows the rule: not if another one hides it from everybody."""
    if rule.selector:
        return True
    home = rule.origin.key.namespace
    clients = dict.fromkeys((home, service.namespace, *(rule.export_to - {EVERYWHERE})))
    return any(model.policies.lookup(service, client) is rule for client in clients)


def _pairs(known: Collection, model: Model, rule: HostPolicy, service: Service) -> Iterator[Message]:
    """The first server of each port that the rule's clients cannot reach."""
    found = compiled.servers(known, service)
    resource = compiled.resource_of(known, rule.origin.key)
    if resource is None:
        return
    for port in (each for each in service.ports if each.protocol is not Protocol.UDP):
        for subset in ("", *(each.name for each in rule.subsets)):
            tls = rule.policy(port.number, subset).tls
            if subset and tls == rule.policy(port.number).tls:
                continue  # said of the whole host already
            wanted = next((each.labels for each in rule.subsets if each.name == subset), frozenset())
            some = [server for server in found if wanted <= server.labels]
            problem = _problem(model, tls, port, some) if tls is not None else None
            if problem is not None:
                server, why = problem
                of = f"{service.host}:{port.number}" + (f" subset {subset}" if subset else "")
                values = (tls.mode.value if tls else "", of, server.pod.full_name, why)
                yield message.make(catalogue.IMPOSSIBLE_MTLS, resource, *values)
                break


def _problem(model: Model, tls: ClientTls, port: Port, servers: Iterable[Server]) -> tuple[Server, str] | None:
    for server in servers:
        mode = _mode(model, server, port)
        if tls.mode in _WITHOUT and server.sidecar and mode is MutualTls.STRICT:
            return server, _because(model, server, "takes mutual TLS only")
        if tls.mode is TlsMode.ISTIO_MUTUAL and not server.sidecar:
            return server, "has no sidecar"
        if tls.mode is TlsMode.ISTIO_MUTUAL and mode is MutualTls.DISABLE:
            return server, _because(model, server, "has mutual TLS switched off")
    return None


def _mode(model: Model, server: Server, port: Port) -> MutualTls:
    """What a server asks of clients of a service's port."""
    target = port.target or port.number
    if isinstance(target, str):
        declared = (
            fields.number(each, "containerPort")
            for one in membership.containers(server.pod.spec)
            for each in fields.records(one, "ports")
            if fields.text(each, "name") == target
        )
        target = next(declared, 0)
    return model.peers.of_port(server.pod.namespace, server.labels, target)


def _because(model: Model, server: Server, what: str) -> str:
    origin = model.peers.of_workload(server.pod.namespace, server.labels).origin
    return f"{what} ({origin.key})" if origin is not None else what


def _plain(known: Collection, model: Model, service: Service) -> Iterator[Message]:
    """Clients without a rule, in a mesh that does not find out by itself who speaks mutual TLS."""
    policy = model.policies.lookup(service, service.namespace)
    resource = compiled.resource_of(known, service.origin.key)
    for port in service.ports if resource is not None else ():
        if policy is None or policy.policy(port.number).tls is None:
            found = _problem(model, ClientTls(), port, compiled.servers(known, service))
            if found is not None:
                values = ("DISABLE", f"{service.host}:{port.number}", found[0].pod.full_name, found[1])
                yield message.make(catalogue.IMPOSSIBLE_MTLS, resource, *values)
                return


ANALYZER: Final = Analyzer(
    name="mesh.MutualTLSAnalyzer",
    description="Checks that clients' TLS settings and what servers ask of their clients go together",
    run=_run,
)

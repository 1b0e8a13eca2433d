"""``istioctl experimental describe`` (``x describe``): what holds for one pod or Service, and who says so.

The objects come from the cluster, or, without one, from files (``--objects``) or istiod's page
(``--monitoring-address``); the proxy's dump from the pod, or from a file. How it is said is the views'.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from crds import core
from crds.destination_rule import DestinationRule
from crds.gateway import Gateway
from crds.peer_authentication import PeerAuthentication
from crds.request_authentication import RequestAuthentication
from crds.virtual_service import VirtualService
from istioctl import dump, objects, options, output
from istioctl.dump import Dump
from istioctl.errors import CommandError
from istioctl.views import authorizations, exposure, identities, origin, pods, traffic_rules
from istiod.mesh import hosts
from wire import names

_RULE: Final = "--------------------"
_OUTBOUND: Final = "outbound"
_DESTINATION_RULE, _VIRTUAL_SERVICE = "destination-rule", "virtual-service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is asked, and what answers it. ``here`` is the namespace whose objects need no namespace in their names."""

    given: argparse.Namespace
    objects: objects.Objects
    here: str

    def named(self, text: str) -> tuple[str, str]:
        """(NAMESPACE, NAME) of ``NAME[.NAMESPACE]``; the flag --namespace wins."""
        name, dot, own = text.removeprefix("pod/").partition(".")
        return (own, name) if dot and not self.given.namespace else (self.here, name)


def register(commands: Any) -> None:
    """Add the command below ``experimental``."""
    parser = commands.add_parser(
        "describe",
        aliases=["des"],
        parents=[options.shared()],
        help="a pod or Service with all that holds for it",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    for name, alias, run in (("pod", "po", _pod), ("service", "svc", _service)):
        each = kinds.add_parser(name, aliases=[alias], parents=[options.shared()], help=run.__doc__, allow_abbrev=False)
        add = each.add_argument
        add("name", metavar="NAME[.NAMESPACE]")
        add("-f", "--file", default="", help="a saved dump of the pod's Envoy; - is standard input")
        add("--admin-address", default="", metavar="HOST:PORT", help="the pod's Envoy is here")
        add("--objects", action="append", default=[], metavar="PATH", help="objects of this file or folder, no cluster")
        options.add_control_plane(each)
        options.add_truth(each, "--ignoreUnmeshed", default=False, text="no warning of pods without a proxy")
        each.set_defaults(run=run)


def _look(given: argparse.Namespace) -> Look:
    if given.objects:
        return Look(given=given, objects=objects.of_files(given.objects), here=given.namespace or "default")
    if given.monitoring_address:
        (plane, *_) = options.control_planes(given)
        known = objects.of_page(plane.name, plane.ask(objects.CONFIG_PAGE))
        return Look(given=given, objects=known, here=given.namespace or "default")
    where = options.cluster(given)
    return Look(given=given, objects=objects.InCluster(where), here=where.namespace)


def _pod(given: argparse.Namespace) -> int:
    """A pod, its Services with their rules, its mTLS modes, policies and certificates."""
    look = _look(given)
    namespace, name = look.named(given.name)
    found = look.objects.get(core.Pod, namespace, name)
    if found is None:
        raise CommandError(f'pod "{name}" not found in namespace "{namespace}"')
    with dump.legible(given.file):
        said = "".join(f"{line}\n" for line in _of_pod(look, found))
    output.say(said)
    return 0


def _of_pod(look: Look, pod: core.Pod) -> Iterator[str]:
    yield from pods.pod(pod, look.here)
    if pods.runs(pod) and not look.given.ignoreUnmeshed:
        yield from pods.remarks(pod, look.here)
    services = [each for each in look.objects.list(core.Service, pod.metadata.namespace) if pods.selected(each, pod)]
    if not services and not look.given.ignoreUnmeshed:
        yield f"Warning: No Kubernetes Services select pod {pods.called(pod, look.here)}"
    held = _held(look, pod)
    yield _RULE
    yield from _services(look, held, pod, services, [pod])
    if held is not None:
        yield _RULE
        yield from _access(look, pod, held)
    yield from _exposures(look, services, [pod])


def _service(given: argparse.Namespace) -> int:
    """A Service, and the rules that lead to its pods."""
    look = _look(given)
    namespace, name = look.named(given.name)
    found = look.objects.get(core.Service, namespace, name)
    if found is None:
        raise CommandError(f'service "{name}" not found in namespace "{namespace}"')
    with dump.legible(given.file):
        said = "".join(f"{line}\n" for line in _of_service(look, found))
    output.say(said)
    return 0


def _of_service(look: Look, service: core.Service) -> Iterator[str]:
    name, selector = pods.called(service, look.here), service.spec.selector
    behind = look.objects.list(core.Pod, service.metadata.namespace, selector) if selector else []
    serving = []
    for pod in behind:
        reason = _silent(pod, look.here)
        if reason:
            yield reason
        else:
            serving.append(pod)
    if not behind:
        yield f'Service "{name}" has no pods.'
    elif not serving:
        yield f'Service "{name}" has no Istio pods.  ({len(behind)} pods in service).'
        yield "Use `istioctl kube-inject` or redeploy with Istio automatic sidecar injection."
    else:
        yield from _services(look, _held(look, *serving), serving[0], [service], serving)
        yield from _exposures(look, [service], serving)


def _silent(pod: core.Pod, here: str) -> str:
    """Why a pod's proxy cannot be asked; "" if it can."""
    if not pods.runs(pod):
        return f"   Pod is not Running ({pod.status.phase or 'Unknown'})"
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    proxy = next((each for each in statuses if each.name == pods.PROXY), None)
    if proxy is None:
        return f'Pod {pods.called(pod, here)}: no container "{pods.PROXY}" in pod'
    return "" if proxy.ready else f"WARNING: Pod {pods.called(pod, here)} Container {pods.PROXY} NOT READY"


def _held(look: Look, pod: core.Pod, *alike: core.Pod) -> Dump | None:
    """What the pod's Envoy has; None of a pod that has none that could be asked. A dump may be of one that is alike.

    Raises:
        CommandError: it does not answer, is of another pod, or there is no dump and no cluster.
    """
    given = look.given
    if not (given.file or given.admin_address):
        if not (pods.meshed(pod) and pods.runs(pod)):
            return None
        if isinstance(look.objects, objects.Known):
            raise CommandError("without a cluster, give the dump of the pod's Envoy with --file or --admin-address")
    admin = options.admins(given, f"{pod.metadata.name}.{pod.metadata.namespace}")[0]
    held = dump.parse(admin.ask("/config_dump"), admin.name)
    fitting = [f"{each.metadata.name}.{each.metadata.namespace}" for each in (pod, *alike)]
    if (owner := held.owner()) not in ("", *fitting):
        raise CommandError(f"{admin.name}: a dump of {owner}, not of {fitting[0]}")
    return held


def _services(
    look: Look, held: Dump | None, pod: core.Pod, services: list[core.Service], among: list[core.Pod]
) -> Iterator[str]:
    """Each Service with its rules, port by port."""
    for row, service in enumerate(services):
        if row:
            yield _RULE
        yield from pods.service(service, pod, look.here)
        if held is not None:
            yield from _ports(look, held, pod, service, among)


def _ports(look: Look, held: Dump, pod: core.Pod, service: core.Service, among: list[core.Pod]) -> Iterator[str]:
    several = len(service.spec.ports) > 1
    for port in service.spec.ports:
        if several:
            yield f"{port.port}:"
        rules = _rules(look, held, service, port.port, among)
        yield from traffic_rules.indented(rules, traffic_rules.ONE if several else "")
        number = pods.target(port, pod)
        if policies := authorizations.of_port(held.listeners(), number) if number else []:
            yield f"{f'{port.port} ' if several else ''}RBAC policies: {', '.join(policies)}"


def _rules(look: Look, held: Dump, service: core.Service, port: int, among: list[core.Pod]) -> Iterator[str]:
    rule, host, stale = None, _host(held, service, port), "WARNING: Proxy is stale; it references to non-existent"
    if (named := _destination_rule(held, host, port)) != ("", ""):
        rule = look.objects.get(DestinationRule, *named)
        if rule is None:
            yield f"{stale} destination rule {named[1]}.{named[0]}"
    to = _target(service, rule, among, host)
    yield from traffic_rules.destination_rule(to, look.here)
    if (named := _virtual_service(held, host, port)) != ("", ""):
        found = look.objects.get(VirtualService, *named)
        if found is None:
            yield f"{stale} virtual service {named[1]}.{named[0]}"
        else:
            yield from traffic_rules.virtual_service(found, to, look.here)


def _target(
    service: core.Service, rule: DestinationRule | None, among: list[core.Pod], host: str = ""
) -> traffic_rules.Target:
    start = f"{service.metadata.name}.{service.metadata.namespace}.svc."
    host = host or f"{start}{names.DEFAULT_DNS_DOMAIN}"
    domain = host.removeprefix(start)
    return traffic_rules.target(host, domain, rule, [each.metadata.labels for each in among])


def _host(held: Dump, service: core.Service, port: int) -> str:
    """The Service's full name, as the proxy's clusters have it; "" where it has none of it."""
    start = f"{_OUTBOUND}|{port}||{service.metadata.name}.{service.metadata.namespace}.svc."
    found = (str(each.get("name", "")) for each in held.clusters())
    return next((name.rpartition("|")[2] for name in found if name.startswith(start)), "")


def _destination_rule(held: Dump, host: str, port: int) -> tuple[str, str]:
    wanted = f"{_OUTBOUND}|{port}||{host}"
    found = (each for each in held.clusters() if each.get("name") == wanted)
    return next((origin.of_kind(each, _DESTINATION_RULE) for each in found), ("", ""))


def _virtual_service(held: Dump, host: str, port: int) -> tuple[str, str]:
    """The rule by whose routes the proxy itself reaches the Service."""
    for table in held.routes():
        if str(table.get("name", "")).rpartition(":")[2] != str(port):
            continue
        for virtual_host in table.get("virtual_hosts", ()):
            if host in virtual_host.get("domains", ()):
                for route in virtual_host.get("routes", ()):
                    if (named := origin.of_kind(route, _VIRTUAL_SERVICE)) != ("", ""):
                        return named
    return "", ""


def _access(look: Look, pod: core.Pod, held: Dump) -> Iterator[str]:
    """What is asked of the pod's clients, and its own certificates."""
    root, meta = look.given.istioNamespace, pod.metadata
    spaces = dict.fromkeys((root, meta.namespace))
    found = [each for space in spaces for each in look.objects.list(PeerAuthentication, space)]
    yield from identities.peer(found, root, meta.namespace, meta.labels)
    tokens = [each for space in spaces for each in look.objects.list(RequestAuthentication, space)]
    yield from identities.request(tokens, meta.labels)
    yield from identities.certificates(held.secrets(), dt.datetime.now(dt.UTC))


def _exposures(look: Look, services: list[core.Service], among: list[core.Pod]) -> Iterator[str]:
    """Where ingress gateways show the Services."""
    gateways = [each for each in look.objects.list(core.Pod, "", exposure.LABELS) if pods.runs(each)]
    if not gateways:
        yield "Skipping Gateway information (no ingress gateway pods)"
        return
    spaces = sorted({each.metadata.namespace for each in gateways})
    found = exposure.ingresses(gateways, [each for space in spaces for each in look.objects.list(core.Service, space)])
    if not found:
        yield "Skipping Gateway information (no ingress gateway service)"
        return
    every = look.objects.list(VirtualService)
    for service in services:
        to = _target(service, _own_rule(look, service), among)
        bound = [
            exposure.Bound(rule=each, named=named, gateway=look.objects.get(Gateway, *named))
            for each in every
            if traffic_rules.leads_to(each, to.host, to.domain)
            for named in exposure.named(each)
        ]
        yield from exposure.lines(bound, found, to, look.here)


def _own_rule(look: Look, service: core.Service) -> DestinationRule | None:
    """The rule that a Service's own namespace has for it, which says what its subsets are."""
    meta, domain = service.metadata, names.DEFAULT_DNS_DOMAIN
    host = f"{meta.name}.{meta.namespace}.svc.{domain}"
    found = look.objects.list(DestinationRule, meta.namespace)
    return next((each for each in found if hosts.resolve(each.spec.host, meta.namespace, domain) == host), None)

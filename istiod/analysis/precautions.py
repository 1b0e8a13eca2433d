"""Settings that are valid and do not protect, or reach further than they look (hostile-input SEC49, SEC64)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from istiod.analysis import audience, catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource, Steps


def _run(known: Collection) -> Iterator[Message]:
    yield from _ports(known)
    yield from _hosts(known)


def _ports(known: Collection) -> Iterator[Message]:
    """Policies for a port of a gateway's service: the gateway listens on another one, and sees that."""
    labels = (fields.labels(each.spec, "selector").items() for each in known.of(kinds.GATEWAY))
    selectors = {frozenset(each) for each in labels if each}
    services = known.by_namespace(kinds.SERVICE)
    found: dict[tuple[frozenset[tuple[str, str]], str | None], dict[int, tuple[str, int]]] = {}
    for policy in known.of(kinds.AUTHORIZATION_POLICY):
        said = list(_said(policy))
        if not said:
            continue
        selector = fields.labels(policy.spec, "selector", "matchLabels")
        namespace = None if policy.namespace == known.root_namespace else policy.namespace
        key = (frozenset(selector.items()), namespace)
        if key not in found:  # of many policies most are for the same pods
            chosen = known.pods(selector, namespace)
            gateways = [pod for pod in chosen if any(own <= pod.labels.items() for own in selectors)]
            found[key] = _translated(gateways, services)
        translated = found[key]
        for at, port in said:
            if port in translated:
                service, target = translated[port]
                yield message.make(catalogue.PORT_OF_SERVICE, policy, port, service, target, at=at)


def _said(policy: Resource) -> Iterator[tuple[Steps, int]]:
    for i, rule in enumerate(fields.records(policy.spec, "rules")):
        for j, to in enumerate(fields.records(rule, "to")):
            for field in ("ports", "notPorts"):
                for k, port in enumerate(fields.texts(to, "operation", field)):
                    yield ("spec", "rules", i, "to", j, "operation", field, k), fields.number(port)


def _translated(pods: list[Resource], services: Mapping[str, list[Resource]]) -> dict[int, tuple[str, int]]:
    """Ports of the services before these pods that are no ports of the pods: the service, and the pods' port."""
    found: dict[int, tuple[str, int]] = {}
    own: set[int] = set()
    homes = sorted({pod.namespace for pod in pods})
    for service in (each for home in homes for each in services.get(home, ())):
        selector = fields.labels(service.spec, "selector")
        own_pods = (pod for pod in pods if pod.namespace == service.namespace)
        if not selector or not any(selector.items() <= pod.labels.items() for pod in own_pods):
            continue
        for port in fields.records(service.spec, "ports"):
            number, target = fields.number(port, "port"), fields.number(port, "targetPort")
            own.add(target or number)
            if target and target != number:
                found[number] = (service.full_name, target)
    return {number: each for number, each in found.items() if number not in own}


def _hosts(known: Collection) -> Iterator[Message]:
    """ServiceEntries for hosts of the cluster, or for so many that they may be among them."""
    cluster = f".svc.{known.domain}"
    services = {audience.full(each.name, each.namespace, known.domain): each for each in known.of(kinds.SERVICE)}
    for entry in known.of(kinds.SERVICE_ENTRY):
        for i, host in enumerate(fields.texts(entry.spec, "hosts")):
            at: Steps = ("spec", "hosts", i)
            service = services.get(host)
            if service is not None and service.namespace != entry.namespace:
                yield message.make(catalogue.HOST_OF_OTHERS, entry, host, service.full_name, at=at)
            elif host.startswith("*") and (cluster.endswith(host[1:]) or host.endswith(cluster)):
                yield message.make(catalogue.HOSTS_OF_CLUSTER, entry, host, at=at)
            elif host.startswith("*.") and host.count(".") == 1:
                yield message.make(catalogue.HOSTS_OF_DOMAIN, entry, host, at=at)


ANALYZER: Final = Analyzer(
    name="mesh.PrecautionAnalyzer",
    description="Checks for policies on ports that a gateway does not listen on, and ServiceEntries for others' hosts",
    run=_run,
)

"""Workloads: the user of their containers, and services of one Deployment that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from istiod.analysis import catalogue, fields, kinds, membership, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_SIDECAR_USER: Final = 1337
_ISTIOS: Final = frozenset((membership.PROXY, "istio-operator"))
_NAME: Final = ("metadata", "name")
_WAYPOINT: Final = ("gateway.istio.io/managed", "istio.io-mesh-controller")


def _users(known: Collection) -> Iterator[Message]:
    pods = [(each, each.spec) for each in known.of(kinds.POD)]
    templates = [(each, fields.record(each.spec, "template", "spec")) for each in known.of(kinds.DEPLOYMENT)]
    for resource, spec in (*pods, *templates):
        if not membership.is_control_plane(resource) and _runs_as_sidecar(spec):
            yield message.make(catalogue.INVALID_UID, resource)


def _runs_as_sidecar(spec: Any) -> bool:
    own = [one for one in fields.records(spec, "containers") if fields.text(one, "name") not in _ISTIOS]
    return any(fields.number(one, "securityContext", "runAsUser") == _SIDECAR_USER for one in (spec, *own))


def _services(known: Collection) -> Iterator[Message]:
    by_label: dict[tuple[str, str, str], list[Resource]] = {}
    for each in known.of(kinds.SERVICE):
        for label, value in sorted(fields.labels(each.spec, "selector").items())[:1]:
            by_label.setdefault((each.namespace, label, value), []).append(each)
    for deployment in known.of(kinds.DEPLOYMENT):
        if deployment.labels.get(_WAYPOINT[0]) == _WAYPOINT[1]:
            continue
        if not membership.deployment_in_mesh(deployment, known):
            continue
        labels = fields.labels(deployment.spec, "template", "metadata", "labels").items()
        near = (by_label.get((deployment.namespace, *label), ()) for label in labels)
        chosen = [one for some in near for one in some if fields.labels(one.spec, "selector").items() <= labels]
        chosen.sort(key=lambda one: one.name)
        yield from _protocols(deployment, chosen)
        yield from _targets(deployment, chosen)


def _protocols(deployment: Resource, services: list[Resource]) -> Iterator[Message]:
    found: dict[int, dict[str, list[str]]] = {}
    for service in services:
        for port in fields.records(service.spec, "ports"):
            protocol = fields.text(port, "protocol") or "TCP"
            found.setdefault(fields.number(port, "port"), {}).setdefault(protocol, []).append(service.full_name)
    for number, protocols in sorted(found.items()):
        if len(protocols) > 1:
            names = sorted(each for some in protocols.values() for each in some)
            kind = catalogue.DEPLOYMENT_OF_MANY_SERVICES
            yield message.make(kind, deployment, deployment.name, number, names, at=_NAME)


def _targets(deployment: Resource, services: list[Resource]) -> Iterator[Message]:
    found: dict[str, dict[int, str]] = {}
    for service in services:
        for port in fields.records(service.spec, "ports"):
            number, target = fields.number(port, "port"), fields.dig(port, "targetPort")
            name = str(target) if isinstance(target, int | str) and target else str(number)
            found.setdefault(name, {})[number] = service.full_name
    for target, ports in sorted(found.items()):
        if len(ports) > 1:
            values = (deployment.name, sorted(ports.values()), target, sorted(ports))
            yield message.make(catalogue.CONFLICTING_PORTS, deployment, *values, at=_NAME)


USERS: Final = Analyzer(name="applicationUID.Analyzer", description="Checks invalid application UID", run=_users)
SERVICES: Final = Analyzer(
    name="deployment.MultiServiceAnalyzer",
    description="Checks association between services and pods",
    run=_services,
)

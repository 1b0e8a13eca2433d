"""What a workload's proxies tell of calls: what its Telemetry comes to, put beside what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from istiod.mesh import access_logs, metrics, node_settings, places, tracing
from istiod.mesh.inbound import Place
from istiod.mesh.model import Model
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.recall import Recall
from istiod.mesh.registry import Registry
from istiod.mesh.service import Service
from istiod.mesh.telemetry import Rules
from istiod.mesh.workloads import PodWorkload
from wire.node import Node


def placed(model: Model, node: Node, pod: PodWorkload | None, recall: Recall) -> Place:
    """The place of a proxy, with the settings of its own."""
    place = places.of(node, pod)
    said = own(model, place, recall)
    return place if said is place.own else replace(place, own=said)


def own(model: Model, place: Place, recall: Recall) -> NodeSettings:
    """The settings of a workload's proxy; the same object for all of whom the same is said."""
    rules = model.telemetry.of_workload(place.namespace, place.labels, recall)
    inputs = (rules, model.loggers, model.tracers, model.settings)
    return recall.of(("reports", place.own), inputs, lambda: _own(model, rules, place.own))


def _own(model: Model, rules: Rules, said: NodeSettings) -> NodeSettings:
    traced = tracing.of(model.tracers, rules.tracing)
    found = node_settings.told(said, model.settings.tracing, traced)
    logs, measured = access_logs.of(rules, model.loggers), metrics.of(rules, model.settings.metrics)
    if logs is None and measured == metrics.NOTHING:
        return found
    return replace(found, logs=logs, metrics=measured)


def reaching(
    visible: tuple[Service, ...], said: NodeSettings, registry: Registry, recall: Recall
) -> tuple[Service, ...]:
    """The services that a workload needs clusters of: those that it sees, and those that are told of calls.

    The same object where it sees all of them. Without its cluster Envoy refuses a listener that names it.
    """
    homes: dict[str, str] = {}
    for told in (said.traced, said.logs):
        for host, home in told.services if told is not None else ():
            homes.setdefault(host, home)
    if not homes:
        return visible
    name = ("told of calls", tuple(homes.items()))
    return recall.of_many(name, (visible, registry.by_host), lambda: _with(visible, homes, registry))


def _with(visible: tuple[Service, ...], homes: Mapping[str, str], registry: Registry) -> tuple[Service, ...]:
    seen = {one.host for one in visible}
    wanted = (registry.get(host, home) for host, home in homes.items() if host not in seen)
    hidden = tuple(one for one in wanted if one is not None)
    return (*visible, *hidden) if hidden else visible


def clusters(said: NodeSettings) -> frozenset[str]:
    """The clusters of those that are told of calls."""
    logs = said.logs.clusters if said.logs is not None else frozenset[str]()
    return tracing.clusters(said.traced) | logs

"""A mesh from a few lines of YAML, for tests of routes, listeners and gateways."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from crds import core, registry, service_entry
from crds.diagnostic import Diagnostic
from crds.key import NETWORKING
from crds.meta import Object
from istiod.config.store import ConfigSnapshot, ConfigStore
from istiod.mesh import (
    destination_rules,
    gateway_servers,
    gateways,
    outbound,
    service_entries,
    services,
    sidecars,
    virtual_service_checks,
    virtual_services,
)
from istiod.mesh import registry as services_registry
from istiod.mesh.gateway_servers import GatewayIndex
from istiod.mesh.model import Model, Summary
from istiod.mesh.recall import Recall
from istiod.mesh.route import Route, RouteTable, VirtualHost
from istiod.mesh.scope import OutboundScope, ScopeKey
from istiod.mesh.service import Service
from istiod.mesh.settings import MeshSettings
from istiod.mesh.sidecars import SidecarIndex
from istiod.mesh.virtual_services import VirtualServiceIndex
from wire.node import NodeType

SETTINGS = MeshSettings()


@dataclass(frozen=True, kw_only=True)
class World:
    snapshot: ConfigSnapshot
    model: Model
    index: VirtualServiceIndex
    gateways: GatewayIndex

    def sidecar(
        self,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        before: OutboundScope | None = None,
        recall: Recall | None = None,
        **place: Any,
    ) -> OutboundScope:
        said = self.model.sidecars.choose(namespace, frozenset((labels or {}).items()))
        key = ScopeKey(
            type=NodeType.SIDECAR,
            namespace=namespace,
            matched=self.index.matched(labels or {}),
            sidecar=said.key if said else None,
            **place,
        )
        return outbound.scope(self.model, self.index, key, before, recall)

    def router(
        self,
        namespace: str = "istio-system",
        labels: Mapping[str, str] | None = None,
        ports: tuple[tuple[int, int], ...] = ((80, 8080),),
        recall: Recall | None = None,
    ) -> OutboundScope:
        own = {"istio": "ingressgateway"} if labels is None else labels
        matched = (*self.gateways.matched(own), *self.index.matched(own))
        key = ScopeKey(type=NodeType.ROUTER, namespace=namespace, matched=matched, ports=ports)
        return gateways.scope(self.model, self.index, self.gateways, key, None, recall)

    def findings(self) -> list[Diagnostic]:
        return list(virtual_service_checks.findings(self.model, self.index, self.gateways, Recall()))

    def told(self) -> list[tuple[str, str, str]]:
        """Findings as (code name, object, field)."""
        return [(one.code.name, one.key.name if one.key else "", one.field) for one in self.findings()]


def snapshot(*texts: str) -> ConfigSnapshot:
    return holding(objects(*texts))


def objects(*texts: str) -> list[Object]:
    return [read(document) for text in texts for document in yaml.safe_load_all(textwrap.dedent(text))]


def holding(items: Iterable[Object]) -> ConfigSnapshot:
    store = ConfigStore()
    for item in items:
        store.apply(item)
    return store.snapshot()


def read(document: Mapping[str, Any]) -> Object:
    """The object of a document, without the checks that a source makes: the mesh must stand more than those let by."""
    group, _, _ = document["apiVersion"].rpartition("/")
    model = registry.KINDS[group, document["kind"]].model
    assert model is not None
    return model.model_validate(document)


def build(
    *texts: str,
    settings: MeshSettings = SETTINGS,
    summaries: Mapping[tuple[str, str], Summary] | None = None,
    previous: World | None = None,
) -> World:
    return of(snapshot(*texts), settings, summaries or {}, previous)


def of(
    taken: ConfigSnapshot,
    settings: MeshSettings = SETTINGS,
    summaries: Mapping[tuple[str, str], Summary] | None = None,
    previous: World | None = None,
) -> World:
    found: list[Service] = []
    for item in taken.of("", "Service").values():
        assert isinstance(item, core.Service)
        found.append(services.service(item, settings))
    for entry in taken.of(NETWORKING, "ServiceEntry").values():
        assert isinstance(entry, service_entry.ServiceEntry)
        found.extend(service_entries.services(entry, settings))
    old = {one: one for one in previous.model.registry.services} if previous else {}
    known, _ = services_registry.build(old.get(one, one) for one in found)
    policies, _ = destination_rules.build(taken, settings, previous.model.policies if previous else None)
    return World(
        snapshot=taken,
        model=Model(
            settings=settings,
            registry=known,
            policies=policies,
            summaries=summaries or {},
            sidecars=sidecars.build(taken, settings.root_namespace, SidecarIndex()),
        ),
        index=virtual_services.build(taken, settings, previous.index if previous else None),
        gateways=gateway_servers.build(taken, previous.gateways if previous else None),
    )


def service(name: str, *ports: str, ip: str = "10.0.0.1", namespace: str = "default", created: str = "") -> str:
    """A Service; ports as ``http:80``."""
    split = [port.split(":") for port in ports or ("http:80",)]
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, **({"creationTimestamp": created} if created else {})},
        "spec": {
            "clusterIP": ip,
            "selector": {"app": name},
            "ports": [{"name": kind, "port": int(number)} for kind, number in split],
        },
    }
    return yaml.safe_dump(document)


def rules(name: str, spec: str, *, namespace: str = "default", created: str = "") -> str:
    """A VirtualService; ``spec`` as YAML."""
    return _networking("VirtualService", name, spec, namespace, created)


def gateway(name: str, spec: str, *, namespace: str = "default", created: str = "") -> str:
    """A Gateway; ``spec`` as YAML."""
    return _networking("Gateway", name, spec, namespace, created)


def subsets(host: str, *names: str, namespace: str = "default", policy: str = "{}") -> str:
    """A DestinationRule with subsets by label version."""
    spec = {
        "host": host,
        "trafficPolicy": yaml.safe_load(policy),
        "subsets": [{"name": name, "labels": {"version": name}} for name in names],
    }
    return _networking(
        "DestinationRule", host.replace("*", "any").replace(".", "-"), yaml.safe_dump(spec), namespace, ""
    )


def entry(name: str, spec: str, *, namespace: str = "default", created: str = "") -> str:
    """A ServiceEntry; ``spec`` as YAML."""
    return _networking("ServiceEntry", name, spec, namespace, created)


def sidecar(spec: str, *, name: str = "default", namespace: str = "default", created: str = "") -> str:
    """A Sidecar; ``spec`` as YAML."""
    return _networking("Sidecar", name, spec, namespace, created)


def _networking(kind: str, name: str, spec: str, namespace: str, created: str) -> str:
    metadata = {"name": name, "namespace": namespace, **({"creationTimestamp": created} if created else {})}
    document = {
        "apiVersion": f"{NETWORKING}/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": yaml.safe_load(textwrap.dedent(spec)),
    }
    return yaml.safe_dump(document)


def host(table: RouteTable, domain: str) -> VirtualHost:
    """The virtual host that has a domain."""
    (found,) = [one for one in table.virtual_hosts if domain in one.domains]
    return found


def route(scope: OutboundScope, table: str, domain: str, place: int = 0) -> Route:
    return host(scope.routes[table], domain).routes[place]


def clusters(found: Route) -> list[str]:
    return [one.destination.cluster for one in found.destinations]

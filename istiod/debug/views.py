"""The mesh as Istio's debug pages have it: endpoints, what selects a proxy, policies, what a proxy's scope holds.

Fields are Istio's where a tool may read them (pilot/pkg/xds/debug.go); values come from the model, not from objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from crds.key import ConfigKey
from crds.meta import Object
from crds.registry import KINDS
from istiod.config.proxy import Proxy
from istiod.mesh.context import MeshContext
from istiod.mesh.endpoint import Endpoint
from istiod.mesh.scope import Scope
from istiod.mesh.service import Port
from wire import names

_SHARD: Final = f"Kubernetes/{names.CLUSTER_ID}"

Json = dict[str, Any]


def endpointz(context: MeshContext) -> list[Json]:
    """Each port of each service with its endpoints."""
    return [
        {
            "svc": f"{service.host}:{port.name}",
            "ep": [
                {"ServicePort": _port(port), "Endpoint": _endpoint(each)}
                for each in context.endpoints.of(service.host, service.namespace, port.number)
            ],
        }
        for service in context.model.registry.services
        for port in service.ports
    ]


def shards(context: MeshContext) -> Json:
    """Endpoints by host, namespace and registry."""
    found: Json = {}
    for (host, namespace), leaf in sorted(context.endpoints.leaves.items()):
        held = [_endpoint(each) for number in sorted(leaf.ports) for each in leaf.ports[number]]
        accounts: Json = {each: {} for each in leaf.identities}
        found.setdefault(host, {})[namespace] = {"Shards": {_SHARD: held}, "ServiceAccounts": accounts}
    return found


def instances(context: MeshContext, proxies: Iterable[Proxy]) -> Json:
    """What each connected proxy serves: ports of services whose endpoint it is."""
    by_address: dict[str, list[Json]] = {}
    for (host, namespace), leaf in sorted(context.endpoints.leaves.items()):
        service = context.model.registry.get(host, namespace)
        for number, found in sorted(leaf.ports.items()):
            port = service.port(number) if service is not None else None
            for each in found:
                said = {"Service": {"Hostname": host, "Namespace": namespace}, "Endpoint": _endpoint(each)}
                by_address.setdefault(each.address, []).append({**said, "Port": _port(port) if port else None})
    return {
        each.node.id: [one for address in each.node.addresses for one in by_address.get(address, ())]
        for each in proxies
    }


def sidecar(scope: Scope) -> Json:
    """What a proxy's scope holds, by name; what is in it has its own page, config_dump."""
    out, own = scope.outbound, scope.inbound
    key = out.key
    return {
        "namespace": key.namespace,
        "type": key.type.value,
        "sidecar": str(key.sidecar) if key.sidecar else None,
        "services": sorted(
            {f"{each.query.namespace}/{each.query.host}" for each in out.clusters.values() if each.query}
        ),
        "outbound": {
            "clusters": sorted(out.clusters),
            "listeners": sorted(out.listeners),
            "routes": sorted(out.routes),
            "secrets": sorted(out.secrets),
        },
        "inbound": {"clusters": sorted(own.clusters), "listeners": sorted(own.listeners)} if own else None,
    }


def policies(objects: Mapping[ConfigKey, Object], of: str, root_namespace: str) -> Json:
    """Objects of one kind by namespace, as authorizationz and telemetryz have them; ``of`` is policies, telemetries."""
    by_namespace: dict[str, list[Json]] = {}
    for key in sorted(objects, key=str):
        body = objects[key].model_dump(mode="json", by_alias=True)
        said = {"name": key.name, "namespace": key.namespace, "spec": body.get("spec", {})}
        by_namespace.setdefault(key.namespace, []).append(said)
    return {f"namespace_to_{of}": by_namespace, "root_namespace": root_namespace}


def kinds() -> list[Json]:
    """The kinds of objects that istiod reads."""
    return [
        {"Group": group, "Version": info.versions[0], "Kind": kind} for (group, kind), info in sorted(KINDS.items())
    ]


def _port(port: Port) -> Json:
    return {"name": port.name, "port": port.number, "protocol": port.protocol.value}


def _endpoint(each: Endpoint) -> Json:
    where = each.locality
    return {
        "Addresses": [each.address, *each.additional],
        "EndpointPort": each.port,
        "Labels": dict(sorted(each.labels)),
        "ServiceAccount": each.identity,
        "Network": each.network,
        "Locality": {"Label": "/".join(filter(None, (where.region, where.zone, where.subzone))), "ClusterID": ""},
        "LbWeight": each.weight,
        "TLSMode": "istio" if each.tls else "disabled",
        "Namespace": each.workload.namespace,
        "WorkloadName": each.workload.name,
        "HostName": each.hostname,
        "NodeName": each.node,
        "HealthStatus": each.health.value,
    }

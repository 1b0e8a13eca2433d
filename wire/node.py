"""What a proxy says of itself when it connects: node id and metadata (features row C2).

The claims in here are not proof: the control plane checks them against the authenticated peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from wire import names

_ID_PARTS = 4


class NodeType(Enum):
    """What kind of proxy: a sidecar beside an app, or a router (gateway)."""

    SIDECAR = "sidecar"
    ROUTER = "router"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locality:
    """Where a workload runs. Empty parts are unknown."""

    region: str = ""
    zone: str = ""
    subzone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One proxy by its own account: id ``sidecar~IP~POD.NAMESPACE~DNS_DOMAIN`` plus metadata."""

    id: str
    type: NodeType
    addresses: tuple[str, ...]
    name: str
    namespace: str
    dns_domain: str
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    cluster_id: str = names.CLUSTER_ID
    network: str = ""
    workload_name: str = ""
    node_name: str = ""
    interception_mode: str = "REDIRECT"
    istio_version: str = ""
    envoy: tuple[int, ...] = ()
    """Major, minor and patch of its Envoy's version, as Envoy says it; () where nothing is said."""
    locality: Locality = Locality()
    metadata: Mapping[str, object] = field(default_factory=dict)


def parse_id(node_id: str) -> tuple[NodeType, str, str, str, str]:
    """(type, IP, pod name, namespace, DNS domain) of ``TYPE~IP~NAME.NAMESPACE~DOMAIN``.

    Raises:
        ValueError: the id has not four parts, or its type is neither sidecar nor router.
    """
    parts = node_id.split("~")
    if len(parts) != _ID_PARTS:
        raise ValueError(f"node id {node_id!r} is not TYPE~IP~NAME.NAMESPACE~DOMAIN")
    name, _, namespace = parts[2].rpartition(".")
    try:
        kind = NodeType(parts[0])
    except ValueError:
        raise ValueError(f"node id {node_id!r}: type {parts[0]!r} is neither sidecar nor router") from None
    return kind, parts[1], name or parts[2], namespace if name else "", parts[3]


def parse(
    node_id: str, metadata: Mapping[str, object], locality: Locality = Locality(), envoy: tuple[int, ...] = ()
) -> Node:
    """The node of an id and its metadata (the JSON form of the Struct that Envoy sends).

    Namespace comes from metadata NAMESPACE, else from the id, else from the DNS domain's first label. The locality is
    the one Envoy reports, else what the label ``istio-locality`` says (region.zone.subzone). ``envoy`` as in Node.

    Raises:
        ValueError: as for parse_id, or id, name, namespace or account hold control characters.
    """
    kind, address, name, id_namespace, domain = parse_id(node_id)
    ips = str(metadata.get("INSTANCE_IPS") or address)
    labels = metadata.get("LABELS")
    found = Node(
        id=node_id,
        type=kind,
        addresses=tuple(ip for ip in ips.split(",") if ip),
        name=str(metadata.get("NAME") or name),
        namespace=str(metadata.get("NAMESPACE") or id_namespace or domain.split(".")[0]),
        dns_domain=domain,
        labels={str(k): str(v) for k, v in labels.items()} if isinstance(labels, Mapping) else {},
        service_account=str(metadata.get("SERVICE_ACCOUNT") or ""),
        cluster_id=str(metadata.get("CLUSTER_ID") or names.CLUSTER_ID),
        network=str(metadata.get("NETWORK") or ""),
        workload_name=str(metadata.get("WORKLOAD_NAME") or ""),
        node_name=str(metadata.get("NODE_NAME") or ""),
        interception_mode=str(metadata.get("INTERCEPTION_MODE") or "REDIRECT"),
        istio_version=str(metadata.get("ISTIO_VERSION") or ""),
        envoy=envoy,
        locality=locality,
        metadata=metadata,
    )
    # They stand in logs and refusals, a line each
    for said in (found.id, found.name, found.namespace, found.service_account):
        if not said.isprintable():
            raise ValueError(f"{said!r} in the node holds control characters")
    return found

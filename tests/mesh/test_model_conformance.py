"""Clusters, inbound chains and endpoints of the whole mesh, as a recorded istiod gave them for the same objects."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from crds import parse, text
from istiod.config.proxy import Peer, Proxy
from istiod.config.store import ConfigStore
from istiod.mesh import context
from istiod.mesh.context import MeshContext
from istiod.mesh.policy import TlsMode
from istiod.mesh.scope import Chain, Cluster, Listener, Scope
from wire import node

ROOT = Path(os.environ.get("CONFORMANCE", Path(__file__).parents[2] / "../shared/conformance")) / "scenarios"
NOT_YET = {
    "envoyfilter": "EnvoyFilters change messages, which come later",
    "gateway-servers": "AUTO_PASSTHROUGH has clusters of its own",
    "sidecar-egress": "Sidecar",
    "se-tls-origination": "its Secret is not there",
}

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="the recorded scenarios are not here")


def scenarios() -> list[str]:
    return sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name not in NOT_YET) if ROOT.is_dir() else []


def mesh(folder: Path) -> MeshContext:
    store = ConfigStore()
    for file in sorted(folder.glob("input/*.yaml")):
        for chunk in text.split(file.read_text()):
            if (document := text.load(chunk.text)) and (item := parse.parse(document).object) is not None:
                store.apply(item)
    return context.build(store.snapshot())


def alpn(socket: dict[str, Any]) -> tuple[str, ...]:
    found = socket.get("typed_config", {}).get("common_tls_context", {}).get("alpn_protocols", ())
    return tuple(found)


def recorded_cluster(said: dict[str, Any]) -> tuple[object, ...]:
    matches = said.get("transport_socket_matches")
    socket = (matches[0]["transport_socket"] if matches else said.get("transport_socket", {})).get("typed_config", {})
    socket = socket.get("transport_socket", {}).get("typed_config", socket)  # PROXY protocol wraps TLS
    known = socket.get("common_tls_context", {}).get("combined_validation_context", {})
    names = known.get("default_validation_context", {}).get("match_subject_alt_names", ())
    tls = "common_tls_context" in socket
    options = json.dumps(said.get("typed_extension_protocol_options", {}))
    return (
        said["type"],
        '"explicit_http_config": {"http2' in options,
        "use_downstream_protocol_config" in options,
        bool(matches),
        socket.get("sni", "") if tls else None,
        tuple(name["exact"] for name in names),
    )


def own_cluster(found: Cluster) -> tuple[object, ...]:
    return (
        found.discovery.value,
        found.protocol.is_http2 and not found.downstream_protocol,
        found.downstream_protocol,
        found.tls is not None and found.tls.mode is TlsMode.AUTO,
        found.tls.sni if found.tls else None,
        found.tls.subject_alt_names if found.tls else (),
    )


def recorded_chain(said: dict[str, Any]) -> tuple[object, ...]:
    match, last = said.get("filter_chain_match", {}), said["filters"][-1]["typed_config"]
    table = last.get("route_config", {})
    return (
        said["name"],
        match.get("destination_port", 0),
        match.get("transport_protocol", ""),
        tuple(match.get("application_protocols", ())),
        last["stat_prefix"].rstrip(";"),
        last.get("cluster") or (table["name"], table["virtual_hosts"][0]["name"]),
        alpn(said.get("transport_socket", {})),
    )


def own_chain(found: Chain) -> tuple[object, ...]:
    table = found.http.inline if found.http else None
    part = found.http or found.tcp
    assert part is not None
    return (
        found.name,
        found.match.destination_port,
        found.match.transport_protocol,
        found.match.application_protocols,
        part.stat_prefix,
        (table.name, table.virtual_hosts[0].name) if table else found.tcp and found.tcp.clusters[0].cluster,
        found.tls.alpn if found.tls else (),
    )


def disabled(filters: list[dict[str, Any]], kind: str) -> tuple[int, ...] | None:
    for one in filters:
        if one["name"] == f"envoy.filters.listener.{kind}_inspector":
            rules = one["filter_disabled"].get("or_match", {}).get("rules", [one["filter_disabled"]])
            return tuple(sorted(rule["destination_port_range"]["start"] for rule in rules))
    return None


def check_inbound(found: Listener, said: dict[str, Any]) -> None:
    assert [own_chain(chain) for chain in found.chains] == [recorded_chain(chain) for chain in said["filter_chains"]]
    filters = said["listener_filters"]
    assert (found.tls_inspector_off if found.inspect_tls else None) == disabled(filters, "tls")
    assert (found.http_inspector_off if found.inspect_http else None) == disabled(filters, "http")


def addresses(assignment: dict[str, Any]) -> list[tuple[str, int]]:
    sockets = (
        one["endpoint"]["address"]["socket_address"]
        for group in assignment.get("endpoints", ())
        for one in group.get("lb_endpoints", ())
    )
    return sorted((socket["address"], socket["port_value"]) for socket in sockets)


def check_endpoints(found: MeshContext, scope: Scope, said: dict[str, Any]) -> None:
    recorded = {one["cluster_name"]: one for one in said["endpoints"]}
    for name, cluster in scope.outbound.clusters.items():
        if (query := cluster.query) is not None:
            own = found.endpoints.of(query.host, query.namespace, query.port)
            wanted = sorted((e.address, e.port) for e in own if query.labels <= e.labels)
            assert (name, wanted) == (name, addresses(recorded[name]))


@pytest.mark.parametrize("name", scenarios())
def test_the_model_is_as_recorded(name: str) -> None:
    found = mesh(ROOT / name)
    proxies = json.loads((ROOT / name / "proxies.json").read_text())["proxies"]
    for proxy in proxies.values():
        said = json.loads((ROOT / name / proxy["dump"]).read_text())
        claims = node.parse(proxy["node_id"], proxy["metadata"])
        scope = context.scope(found, Proxy(peer=Peer(address="", identity=None), node=claims))
        own = {**scope.outbound.clusters, **(scope.inbound.clusters if scope.inbound else {})}
        clusters = {one["name"]: recorded_cluster(one) for one in said["clusters"]}
        if scope.inbound is None:  # gateways get the clusters that their routes need, not all (row D18)
            clusters = {key: one for key, one in clusters.items() if key in own}
        assert {key: own_cluster(one) for key, one in own.items()} == clusters
        if scope.inbound is not None:
            (listener,) = (one for one in said["listeners"] if one["name"] == "virtualInbound")
            check_inbound(scope.inbound.listeners["virtualInbound"], listener)
        if name != "dr-locality":  # distribution leaves localities out: that is decided later
            check_endpoints(found, scope, said)

"""Authentication policies of Istio's unit tests and what they come to: group authn.

Key sets are given, not fetched: a rule whose expected provider has the server's keys is told them, and a rule whose
provider has the key that nobody owns is told none, as if the fetch had failed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from conformance import difference
from conformance.difference import Difference
from crds import peer_authentication as pa
from crds import request_authentication as ra
from crds.key import ConfigKey
from crds.meta import Object
from istiod import features
from istiod.config.key_sets import KeySource
from istiod.config.origin import Origin
from istiod.config.store import ConfigStore
from istiod.envoy import tls
from istiod.envoy.filters import jwt_authn
from istiod.mesh import inbound_chains, jwt, peer_authentication, request_authentication
from istiod.mesh.inbound_chains import Target
from istiod.mesh.policy import MutualTls
from istiod.mesh.registry import Registry
from istiod.mesh.request_authentication import RequestAuthenticationIndex
from istiod.mesh.route import RouteTable
from istiod.mesh.service import Protocol, Resolution, Service
from istiod.mesh.settings import MeshSettings

_HOME = "my-ns"
_Case = Mapping[str, Any]


def policy(path: Path) -> Iterator[Difference]:
    """One case of one of the four tables."""
    case = json.loads(path.read_text())
    yield from _TABLES[case["table"]](case)


def _filter(case: _Case) -> Iterator[Difference]:
    """RequestAuthentications that hold for a workload -> its filter; null: none."""
    wanted = case["expected"]
    expected = wanted["typedConfig"] if wanted else None
    objects = [_object(one, number) for number, one in enumerate(case["configs"])]
    providers = _providers(case, objects, expected)
    found = list(jwt_authn.http_filters(providers, clear_route_cache=False))
    given = {"name": found[0].name, "typedConfig": _json(jwt_authn.message(providers))} if found else None
    if expected is not None:
        wanted = {**wanted, "typedConfig": _same(expected, config_pb2.JwtAuthentication())}
    yield from difference.leaves("", "filter", wanted, given)


def _rules(case: _Case) -> Iterator[Difference]:
    """JWT rules -> the filter's configuration."""
    said = {"kind": "RequestAuthentication", "metadata": {}, "spec": {"jwtRules": case["jwt_rules"] or []}}
    expected = case["expected"]
    found = jwt_authn.message(_providers(case, [_object(said, 0)], expected)) if case["jwt_rules"] else None
    wanted = _same(expected, config_pb2.JwtAuthentication()) if expected else None
    yield from difference.leaves("", "config", wanted, _json(found) if found is not None else None)


def _composed(case: _Case) -> Iterator[Difference]:
    """PeerAuthentications that hold for a workload -> the mode of each of its ports."""
    verdict = _verdict(case).of_workload(_HOME, _all_labels(case))
    yield from difference.leaves("", "mode", case["expected_mode"], verdict.mode.value)
    ports = {str(port): mode.value for port, mode in verdict.ports}
    yield from difference.leaves("", "ports", case["expected_per_port"], ports)


def _inbound(case: _Case) -> Iterator[Difference]:
    """PeerAuthentications -> mode and TLS contexts of one port, for HTTP and for TCP."""
    mode = _verdict(case).of_port(_HOME, frozenset(case["proxy_labels"].items()), case["port"])
    yield from difference.leaves("", "mode", case["expected_mode"], mode.value)
    for name, protocol in (("http", Protocol.HTTP), ("tcp", Protocol.TCP)):
        expected = case.get(f"expected_{name}_tls")
        wanted = _same(expected, tls_pb2.DownstreamTlsContext()) if expected else None
        yield from difference.leaves("", f"{name} context", wanted, _context(protocol, mode))


_TABLES: Mapping[str, Callable[[_Case], Iterator[Difference]]] = {
    "jwt_filter": _filter,
    "envoy_jwt_config": _rules,
    "compose_peer_authentication": _composed,
    "inbound_mtls_settings": _inbound,
}


def _object(said: _Case, number: int) -> Object:
    """An object of a case, with the names that it may leave out. Istio's tests skip validation, as this does."""
    metadata = {"name": f"policy-{number}", "namespace": _HOME, **said["metadata"]}
    document = {**said, "apiVersion": "security.istio.io/v1", "metadata": metadata}
    kind = ra.RequestAuthentication if said["kind"] == "RequestAuthentication" else pa.PeerAuthentication
    return kind.model_validate(document)


def _providers(case: _Case, objects: list[Object], expected: _Case | None) -> jwt.Providers:
    """What the product makes of a case's RequestAuthentications."""
    mode = case.get("jwks_fetch_mode", "Istiod")
    chosen, _ = features.read({"PILOT_JWT_ENABLE_REMOTE_JWKS": mode})
    settings = MeshSettings(root_namespace=case.get("root_namespace", "root-namespace"), features=chosen)
    store = ConfigStore()
    for one in objects:
        store.apply(one)
    known = _index(store, settings, case)
    sources = {one.issuer: source for source, one in _fetched(known, objects)}
    for provider in (expected or {}).get("providers", {}).values():
        keys = provider.get("localJwks", {}).get("inlineString", jwt.NOBODYS)
        if keys != jwt.NOBODYS and (source := sources.get(provider.get("issuer", ""))) is not None:
            store.put_key_set(source, keys)
    return _index(store, settings, case).of_workload(_HOME, frozenset())


def _fetched(index: RequestAuthenticationIndex, objects: list[Object]) -> Iterator[tuple[KeySource, ra.JWTRule]]:
    """What has to be fetched, and for which rule."""
    by_key = {one.key: one for one in objects if isinstance(one, ra.RequestAuthentication)}
    for source, wish in index.wishes.items():
        for key, place in wish.places:
            number = int(place.rpartition("[")[2].rstrip("]"))
            yield source, by_key[key].spec.jwt_rules[number]


def _index(store: ConfigStore, settings: MeshSettings, case: _Case) -> RequestAuthenticationIndex:
    services = [_service(one) for one in case.get("known_services", ())]
    registry = Registry(services=tuple(services), by_host={one.host: (one,) for one in services})
    nothing = RequestAuthenticationIndex()
    return request_authentication.build(store.snapshot(), settings, registry, nothing)


def _service(said: _Case) -> Service:
    host, namespace = said["hostname"], said["namespace"]
    key = ConfigKey("", "Service", namespace, host.partition(".")[0])
    return Service(
        host=host,
        name=key.name,
        namespace=namespace,
        ports=(),
        addresses=(),
        resolution=Resolution.CLIENT_SIDE,
        mesh_external=False,
        kubernetes=True,
        headless=False,
        selector=frozenset(),
        labels=frozenset(),
        export_to=frozenset({"*"}),
        external_name="",
        created=None,
        origin=Origin(key=key),
    )


def _verdict(case: _Case) -> peer_authentication.PeerAuthenticationIndex:
    store = ConfigStore()
    for number, one in enumerate(case["configs"]):
        store.apply(_object(one, number))
    index, _ = peer_authentication.build(store.snapshot(), case["root_namespace"])
    return index


def _all_labels(case: _Case) -> frozenset[tuple[str, str]]:
    """Labels of a workload for which all policies of a case hold, as the table means them."""
    selectors = (one["spec"].get("selector", {}).get("matchLabels", {}) for one in case["configs"])
    return frozenset(pair for labels in selectors for pair in labels.items())


def _context(protocol: Protocol, mode: MutualTls) -> Any:
    table = RouteTable(name="", virtual_hosts=())
    target = Target(port=0, routes=table, origin=None, http_name="", tcp_name="", http_stats="", cluster="")
    contexts = [chain.tls for chain in inbound_chains.chains(target, protocol, mode) if chain.tls is not None]
    if not contexts:
        return None
    socket: base_pb2.TransportSocket = tls.downstream(contexts[0], MeshSettings())
    found = tls_pb2.DownstreamTlsContext()
    socket.typed_config.Unpack(found)
    return _json(found)


def _json(message: Message) -> Any:
    return json_format.MessageToDict(message)


def _same(said: _Case, message: Message) -> Any:
    """A message of a case as ours is written."""
    without = {key: value for key, value in copy.deepcopy(dict(said)).items() if key != "@type"}
    return _json(json_format.ParseDict(without, message))

"""AuthorizationPolicies of Istio's builder tests and the filters that it makes of them: group authz."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as tcp_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from conformance import difference
from conformance.difference import Difference
from istiod.config.store import ConfigStore
from istiod.envoy.filters import authorization as filters
from istiod.mesh import context
from istiod.mesh.authorization import Authorization
from istiod.mesh.recall import Recall
from istiod.watch import files

_PACKED = (ext_authz_pb2, rbac_pb2, tcp_ext_authz_pb2, tcp_rbac_pb2, uri_template_match_pb2)
"""What is packed into filters: once imported, protobuf can write it as JSON."""


def unit(path: Path) -> Iterator[Difference]:
    """The filters of one pass for one workload."""
    case = json.loads(path.read_text())
    tcp, custom = case["protocol"] == "tcp", case["builder"].startswith("custom")
    said = _authorization(case)
    given = [json_format.MessageToDict(one) for one in _filters(said, tcp=tcp, custom=custom)]
    kind = listener_components_pb2.Filter if tcp else http_connection_manager_pb2.HttpFilter
    wanted = [json_format.MessageToDict(_read(kind(), one)) for one in case["expected_filters"] or ()]
    yield from difference.leaves("", "filters", wanted, given)


def _read(message: Message, said: dict[str, Any]) -> Message:
    return json_format.ParseDict(said, message)


def _filters(said: Authorization | None, *, tcp: bool, custom: bool) -> Iterable[Message]:
    if not tcp:
        return filters.asking(said) if custom else filters.deciding(said)
    ours = list(filters.network(said))
    asking = len(ours) - len(list(filters.deciding(said)))
    return ours[:asking] if custom else ours[asking:]


def _authorization(case: Mapping[str, Any]) -> Authorization | None:
    """What holds for the case's workload, by the product's own way from YAML."""
    store, found = ConfigStore(), files.FileSet()
    text = "\n---\n".join((case["policies_yaml"], *map(yaml.safe_dump, _around(case))))
    for item in found.put(files.read("case.yaml", text.encode(), None)).applied:
        store.apply(item)
    index = context.build(store.snapshot()).model.authorizations
    place = case["proxy"]
    return index.choose(place["namespace"], frozenset(place["labels"].items()), Recall())


def _around(case: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The mesh configuration, and services that are known by their hosts only."""
    mesh, domains = dict(case["mesh_config"] or {}), case["trust_domains"]
    if domains:
        mesh |= {"trustDomain": domains[0], "trustDomainAliases": domains[1:]}
    about = {"name": "istio", "namespace": "istio-system"}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"mesh": yaml.safe_dump(mesh)}}
    for number, service in enumerate(case["known_services"]):
        yield {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": f"service-{number}", "namespace": service["namespace"]},
            "spec": {
                "hosts": [service["hostname"]],
                "ports": [{"number": 9000, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
            },
        }

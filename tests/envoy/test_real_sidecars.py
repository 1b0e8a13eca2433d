"""The real Envoy reads what Sidecars, interception mode NONE and IPv6 make of a mesh."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import json_format

from istiod.envoy.compiler import Compiler
from istiod.mesh.endpoint import EndpointTable
from tests.envoy import made, test_real_envoy
from tests.mesh import fleet
from wire import names

SERVICES = (
    fleet.kube_service("web", ports=[{"port": 9080, "name": "http"}, {"port": 9081, "name": "grpc-web"}]),
    fleet.kube_service("db", ports=[{"port": 5432, "name": "tcp"}]),
    fleet.kube_service("any", ports=[{"port": 7000, "name": "x"}]),
)


def on(number: int, protocol: str, **more: object) -> dict[str, object]:
    return {"port": {"number": number, "protocol": protocol, "name": "x"}, **more}


SIDECAR = fleet.istio(
    "Sidecar",
    "own",
    {
        "ingress": [
            on(80, "HTTP", defaultEndpoint="127.0.0.1:8080"),
            on(81, "TCP", defaultEndpoint="0.0.0.0:8081"),
            on(82, "HTTP", defaultEndpoint="unix:///tmp/app.sock"),
            on(83, "HTTP", captureMode="NONE", defaultEndpoint="127.0.0.1:8083"),
        ],
        "egress": [
            on(3128, "HTTP_PROXY", bind="127.0.0.1", captureMode="NONE", hosts=["*/*"]),
            on(5432, "TCP", bind="127.0.0.1", captureMode="NONE", hosts=["*/*"]),
            {"hosts": ["*/*"]},
        ],
    },
)


@pytest.mark.envoy
@pytest.mark.parametrize("addresses", [("10.1.9.9",), ("fd00::1",), ("10.1.9.9", "fd00::1")])
@pytest.mark.parametrize("mode", ["REDIRECT", "NONE"])
@pytest.mark.parametrize("texts", [(), (SIDECAR,)], ids=["no sidecar", "sidecar"])
def test_envoy_accepts_listeners_of_every_kind_of_proxy(
    texts: tuple[str, ...], mode: str, addresses: tuple[str, ...], tmp_path: Path
) -> None:
    proxy = fleet.proxy("client-1", INTERCEPTION_MODE=mode)
    proxy = dataclasses.replace(proxy, node=dataclasses.replace(proxy.node, addresses=addresses))
    resources = Compiler().compile(fleet.Mesh(*SERVICES, *texts).scope(proxy), EndpointTable(), made.VIEW)
    found = json_format.ParseDict(test_real_envoy.BOOTSTRAP, bootstrap_pb2.Bootstrap())
    for resource in resources.of(names.CLUSTER):
        found.static_resources.clusters.append(made.parsed(resource, cluster_pb2.Cluster))
    for resource in resources.of(names.LISTENER):
        found.static_resources.listeners.append(made.parsed(resource, listener_pb2.Listener))
    code, said = test_real_envoy.verdict(found, tmp_path)
    assert code == 0, said

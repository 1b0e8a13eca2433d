"""The real Envoy's verdict on everything that the compiler can say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import json_format

from istiod.config.resource import ResourceSet
from istiod.envoy.compiler import Compiler
from istiod.mesh.endpoint import EndpointTable
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.settings import AccessLogEncoding, MeshSettings
from tests import envoys
from tests.envoy import made, rich
from wire import names

BOOTSTRAP = {
    "node": {"id": "sidecar~10.0.0.1~a.default~default.svc.cluster.local", "cluster": "a"},
    "dynamic_resources": {
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
        }
    },
    "static_resources": {
        "clusters": [
            {
                "name": name,
                "type": "STATIC",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    }
                },
            }
            for name in (names.CLUSTER_SDS, names.CLUSTER_XDS)
        ]
    },
}


STILL_SENT_BY_ISTIO = {
    "Cluster.dns_jitter",
    "Cluster.dns_refresh_rate",
    "Cluster.respect_dns_ttl",
    "RouteAction.max_grpc_timeout",
}
"""Fields that Envoy calls deprecated and that the recordings of istiod hold."""


def bootstrap(resources: ResourceSet, routed: str = "0.0.0.0_9080") -> bootstrap_pb2.Bootstrap:
    """A bootstrap that holds all clusters and listeners, and the route tables inside one more listener each.

    ``routed`` names a listener that asks for routes in its first chain.
    """
    found = json_format.ParseDict(BOOTSTRAP, bootstrap_pb2.Bootstrap())
    for resource in resources.of(names.CLUSTER):
        found.static_resources.clusters.append(made.parsed(resource, cluster_pb2.Cluster))
    for resource in resources.of(names.LISTENER):
        found.static_resources.listeners.append(made.parsed(resource, listener_pb2.Listener))
    with_rds = next(each for each in found.static_resources.listeners if each.name == routed)
    for at, resource in enumerate(resources.of(names.ROUTE)):
        holder = found.static_resources.listeners.add()
        holder.CopyFrom(with_rds)
        holder.name, holder.address.socket_address.port_value = f"holds {resource.name}", 20_000 + at
        manager = made.manager(holder.filter_chains[0])
        manager.route_config.CopyFrom(made.parsed(resource, route_pb2.RouteConfiguration))
        holder.filter_chains[0].filters[0].typed_config.Pack(manager)
    return found


def verdict(config: bootstrap_pb2.Bootstrap, folder: Path) -> tuple[int, str]:
    path = folder / "bootstrap.pb"
    path.write_bytes(config.SerializeToString())
    command = [envoys.binary(), "--mode", "validate", "-c", str(path), "--log-level", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.envoy
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(made.SETTINGS, id="text log"),
        pytest.param(
            MeshSettings(
                access_log_file="/dev/null",
                access_log_encoding=AccessLogEncoding.JSON,
                path_normalization="DECODE_AND_MERGE_SLASHES",
                headers=ProxyHeaders(trusted_proxies=1),
            ),
            id="json log",
        ),
        pytest.param(
            MeshSettings(access_log_file="/dev/null", access_log_format="%REQ_WITHOUT_QUERY(:PATH)%"), id="own log"
        ),
    ],
)
def test_envoy_accepts_everything_the_compiler_can_say(settings: MeshSettings, tmp_path: Path) -> None:
    scope = rich.scope()
    compiled = Compiler().compile(
        made.scope(
            scope.outbound.clusters.values(),
            scope.outbound.listeners.values(),
            scope.outbound.routes.values(),
            scope.inbound,
            settings,
        ),
        EndpointTable(),
        made.VIEW,
    )
    code, said = verdict(bootstrap(compiled), tmp_path)
    assert code == 0, said
    assert set(re.findall(r"deprecated option '[a-z0-9.]*([A-Z][^']*)'", said)) == STILL_SENT_BY_ISTIO


@pytest.mark.envoy
def test_envoy_would_have_refused_a_listener_without_routes(tmp_path: Path) -> None:
    config = bootstrap(Compiler().compile(rich.scope(), EndpointTable(), made.VIEW))
    broken = hcm_pb2.HttpConnectionManager(stat_prefix="x")
    config.static_resources.listeners[0].filter_chains[0].filters[0].typed_config.Pack(broken)
    code, said = verdict(config, tmp_path)
    assert code != 0
    assert "route_specifier" in said

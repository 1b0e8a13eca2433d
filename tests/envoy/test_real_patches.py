"""The real Envoy's verdict on patched configuration, and on what connection settings make of a connection manager."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crds.proxy_config import ConnectionSettings
from istiod.envoy.compiler import Compiler
from istiod.mesh import connection_settings
from istiod.mesh.endpoint import EndpointTable
from istiod.mesh.envoy_filters import PatchSet
from tests.envoy import made, rich
from tests.envoy.patching import LUA, MANAGER, index, patch
from tests.envoy.test_real_envoy import bootstrap, verdict
from wire import names

pytestmark = pytest.mark.envoy

ROUTER = {"filterChain": {"filter": {"name": MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}}}
SCRIPT = {"@type": LUA, "default_source_code": {"inline_string": "function envoy_on_request(h) end"}}
LIMIT = {
    "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
    "type_url": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    "value": {"stat_prefix": "limits"},
}
PATCHES = (
    patch("HTTP_FILTER", "INSERT_BEFORE", {"name": "lua", "typed_config": SCRIPT}, listener=ROUTER),
    patch("HTTP_FILTER", "INSERT_FIRST", {"name": "limit", "typed_config": LIMIT}, listener=ROUTER),
    patch("CLUSTER", "ADD", {"name": "added", "type": "STATIC", "connect_timeout": "1s"}),
    patch("CLUSTER", "MERGE", {"circuit_breakers": {"thresholds": [{"max_connections": 5}]}}),
    patch("VIRTUAL_HOST", "MERGE", {"request_headers_to_add": [{"header": {"key": "x", "value": "1"}}]}),
    patch(
        "HTTP_ROUTE",
        "MERGE",
        {"route": {"timeout": "9s"}},
        routeConfiguration={"vhost": {"route": {"action": "ROUTE"}}},
    ),
)


def test_envoy_accepts_what_patches_make_of_everything(tmp_path: Path) -> None:
    (one,) = index(*PATCHES).all()
    limits = connection_settings.read(ConnectionSettings(profile="EDGE"), gateway=True)
    scope = replace(rich.scope(), patches=PatchSet(patches=one.patches))
    settings = replace(scope.settings, sidecar_connections=limits, gateway_connections=limits)
    found = Compiler().compile(replace(scope, settings=settings), EndpointTable(), made.VIEW)
    assert found.get(names.CLUSTER, "added") is not None
    code, said = verdict(bootstrap(found), tmp_path)
    assert code == 0, said

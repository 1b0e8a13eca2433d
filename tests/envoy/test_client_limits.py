"""``defaultConfig.connectionSettings``: limits of clients at gateways and sidecars."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crds.proxy_config import ConnectionSettings as Said
from istiod.envoy import listener
from istiod.mesh import connection_settings
from istiod.mesh.scope import Chain, Direction, Http, Listener
from istiod.mesh.settings import MeshSettings
from tests.envoy import made
from tests.mesh import fleet


def settings(**said: Any) -> MeshSettings:
    read = Said.model_validate(said)
    return MeshSettings(
        enable_tracing=False,
        sidecar_connections=connection_settings.read(read, gateway=False),
        gateway_connections=connection_settings.read(read, gateway=True),
    )


def compiled(direction: Direction, mesh: MeshSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    chain = Chain(name="", http=Http(stat_prefix="x", rds="80"))
    leaf = Listener(name="l", address="10.0.0.1", port=80, direction=direction, chains=(chain,))
    message = listener.message(leaf, mesh)
    return made.shown(message), made.shown(made.manager(message.filter_chains[0]))


def test_the_edge_has_stricter_defaults_for_gateways_only() -> None:
    mesh = settings(profile="EDGE", httpIdleTimeout="7s", httpMergeSlashes=False)
    own, found = compiled(Direction.GATEWAY, mesh)
    assert own["per_connection_buffer_limit_bytes"] == 32768
    assert made.picked(found, "stream_idle_timeout", "request_timeout", "request_headers_timeout") == {
        "stream_idle_timeout": "300s",
        "request_timeout": "300s",
        "request_headers_timeout": "60s",
    }
    assert found["common_http_protocol_options"] == {
        "idle_timeout": "7s",
        "headers_with_underscores_action": "REJECT_REQUEST",
    }
    assert found["http2_protocol_options"] == {
        "max_concurrent_streams": 100,
        "initial_stream_window_size": 65536,
        "initial_connection_window_size": 1048576,
    }
    assert found["path_with_escaped_slashes_action"] == "UNESCAPE_AND_REDIRECT"
    assert "merge_slashes" not in found
    own, found = compiled(Direction.OUTBOUND, mesh)
    assert "per_connection_buffer_limit_bytes" not in own
    assert found["common_http_protocol_options"] == {"idle_timeout": "7s"}
    assert "http2_protocol_options" not in found


@pytest.mark.parametrize("direction", list(Direction))
def test_what_is_said_holds_everywhere(direction: Direction) -> None:
    mesh = settings(
        listenerPerConnectionBufferLimitBytes=1000,
        httpMaxConnectionDuration="1s",
        httpMaxStreamDuration="2s",
        httpDrainTimeout="3s",
        httpMaxConcurrentStreams=-1,
        http2InitialStreamWindowSize=70000,
        httpHeadersWithUnderscoresAction="HEADERS_WITH_UNDERSCORES_DROP_HEADER",
        httpMergeSlashes=True,
        httpPathWithEscapedSlashesAction="KEEP_UNCHANGED",
    )
    own, found = compiled(direction, mesh)
    assert own["per_connection_buffer_limit_bytes"] == 1000
    assert found["common_http_protocol_options"] == {
        "max_connection_duration": "1s",
        "max_stream_duration": "2s",
        "headers_with_underscores_action": "DROP_HEADER",
    }
    assert found["http2_protocol_options"] == {"initial_stream_window_size": 70000}
    assert (found["drain_timeout"], found["merge_slashes"]) == ("3s", True)
    assert found["path_with_escaped_slashes_action"] == "KEEP_UNCHANGED"


def test_nothing_said_changes_nothing() -> None:
    mesh = settings(profile="SIDECAR")
    for direction in Direction:
        assert compiled(direction, mesh) == compiled(direction, MeshSettings(enable_tracing=False))


def test_the_mesh_says_it_for_all_proxies() -> None:
    text = "defaultConfig: {connectionSettings: {profile: EDGE, httpStreamIdleTimeout: 9s}}"
    mesh = fleet.Mesh(fleet.mesh_config(text))
    found = mesh.context.model.settings
    assert found.sidecar_connections is not None
    assert found.gateway_connections is not None
    assert found.sidecar_connections.stream_idle_timeout == timedelta(seconds=9)
    assert (found.sidecar_connections.request_timeout, found.gateway_connections.request_timeout) == (
        None,
        timedelta(minutes=5),
    )
    assert mesh.told() == []

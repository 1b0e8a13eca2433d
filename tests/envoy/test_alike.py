"""Inbound chains that workloads have in common."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from istiod.envoy import listener
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.scope import Chain, ChainMatch, Direction, Listener, Tcp, WeightedCluster
from tests.envoy import made

TCP = Tcp(stat_prefix="x", clusters=(WeightedCluster(cluster="c"),))
INBOUND = Listener(name="l", address="0.0.0.0", port=80, direction=Direction.INBOUND)


def test_inbound_chains_that_no_service_declares_are_made_once() -> None:
    alike, settings = listener.Alike(most=2), made.QUIET
    outbound = replace(INBOUND, direction=Direction.OUTBOUND)
    rest, port = Chain(name="rest", tcp=TCP), Chain(name="port", tcp=TCP, match=ChainMatch(destination_port=80))
    first, second, third = (
        replace(INBOUND, chains=(rest, port), own=NodeSettings(idle_timeout=timedelta(days))) for days in (1, 2, 3)
    )
    found = alike.of(rest, first, settings)
    assert alike.of(rest, replace(first, port=81), settings) is found
    assert alike.of(rest, second, settings) is not found
    assert alike.of(rest, first, settings) is found
    assert alike.of(rest, third, settings) is not found  # and there are too many now
    assert alike.of(rest, first, settings) is not found
    assert alike.of(port, first, settings) is not alike.of(port, first, settings)
    assert alike.of(rest, outbound, settings) is not alike.of(rest, outbound, settings)
    assert alike.of(rest, first, replace(settings)) is not alike.of(rest, first, settings)
    for leaf in (first, second, third):
        assert listener.message(leaf, settings, alike) == listener.message(leaf, settings)

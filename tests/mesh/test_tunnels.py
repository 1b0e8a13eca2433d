"""TCP through an HTTP proxy (feature G13)."""

from __future__ import annotations

from istiod.mesh.policy import Tunnel
from tests.mesh import world

WEB = world.service("web", "http:80", "tcp:9000", "https:443", ip="10.0.0.7")


def test_a_single_tcp_destination_may_be_behind_a_tunnel() -> None:
    policy = world.subsets("web", policy="{tunnel: {targetHost: a.com, targetPort: 1}}")
    found = world.build(WEB, policy).sidecar().listeners["10.0.0.7_9000"].chains[0]
    assert found.tcp is not None
    assert found.tcp.tunnel == Tunnel(target="a.com:1")
    both = "[{destination: {host: web, port: {number: 9000}}, weight: 1}, {destination: {host: web}, weight: 1}]"
    split = world.rules("web", f"{{hosts: [web], tcp: [{{route: {both}}}]}}")
    found = world.build(WEB, policy, split).sidecar().listeners["10.0.0.7_9000"].chains[0]
    assert found.tcp is not None
    assert found.tcp.tunnel is None

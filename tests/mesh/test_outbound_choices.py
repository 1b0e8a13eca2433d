"""Finer points of routes and listeners of sidecars, where Istio's choices are not the only ones to think of."""

from __future__ import annotations

from tests.mesh import world


def test_only_two_labels_are_a_name_and_a_namespace() -> None:
    entry = "{hosts: [a.b.default.svc.cluster.local], ports: [{number: 80, name: h, protocol: HTTP}], resolution: DNS}"
    (host, _) = world.build(world.entry("a", entry)).sidecar().routes["80"].virtual_hosts
    full = "a.b.default.svc.cluster.local"
    assert host.domains == (full, f"{full}.", "a.b.default", "a.b.default.svc")

"""Services that cannot share a port in a sidecar: the older one serves, the other's owner is told."""

from __future__ import annotations

from dataclasses import replace

from istiod.mesh import port_conflicts
from istiod.mesh.recall import Recall
from tests.mesh import world
from tests.mesh.test_outbound import EXTERNAL, chains, to


def test_of_two_opaque_services_that_cannot_be_told_apart_the_older_one_serves() -> None:
    young = world.entry("a", EXTERNAL % ("a.example", 9000, "TCP", ""), created="2024-01-02T00:00:00Z")
    old = world.entry("b", EXTERNAL % ("b.example", 9000, "TCP", ""), created="2024-01-01T00:00:00Z")
    for texts in ((young, old), (old, young)):
        mesh = world.build(*texts)
        assert chains(mesh.sidecar().listeners["0.0.0.0_9000"]) == [((), (), ["outbound|9000||b.example"])]
        assert ("PORT_CONFLICT", "a", "spec.ports") in mesh.told()


def test_of_two_undeclared_services_at_one_address_the_older_one_serves() -> None:
    spec = "{hosts: [x.example, y.example], addresses: [10.9.0.1], ports: [{name: p, number: 80}], resolution: NONE}"
    mesh = world.build(world.entry("x", spec))
    scope = mesh.sidecar()
    assert sorted(scope.routes) == ["x.example:80"]
    assert to(scope.listeners["10.9.0.1_80"].default_chain) == ["outbound|80||x.example"]
    assert mesh.told() == [("PORT_CONFLICT", "x", "spec.ports")]


def test_conflicts_of_ports_are_looked_for_when_services_change_and_not_at_each_rule() -> None:
    both = [world.entry(name, EXTERNAL % (f"{name}.example", 9000, "TCP", "")) for name in "ab"]
    model, recall = world.build(*both).model, Recall()
    found = port_conflicts.findings(model, recall)
    assert len(found) == 1
    assert port_conflicts.findings(replace(model), recall) is found
    assert port_conflicts.findings(world.build(*both[:1]).model, recall) == ()

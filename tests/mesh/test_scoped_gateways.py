"""PILOT_SCOPE_GATEWAY_TO_NAMESPACE: Gateways select pods of their own namespace only (features row E1)."""

from __future__ import annotations

import pytest

from istiod.config.store import ConfigStore
from istiod.features import Features
from istiod.mesh import secret_users, unserved
from tests.mesh import fleet
from tests.mesh.test_credentials import POD, ROUTER, SERVICE, gateway, secret

SCOPED = Features(scope_gateways=True)
AT_HOME = gateway().replace("namespace: default", "namespace: istio-system")


def ports(mesh: fleet.Mesh) -> list[str]:
    return sorted(mesh.scope(ROUTER).outbound.listeners)


@pytest.mark.parametrize(("features", "found"), [(Features(), ["0.0.0.0_443", "0.0.0.0_80"]), (SCOPED, [])])
def test_a_gateway_of_another_namespace_counts_where_it_may(features: Features, found: list[str]) -> None:
    assert ports(fleet.Mesh(SERVICE, POD, gateway(), secret(), features=features)) == found


def test_one_of_the_pods_own_namespace_counts() -> None:
    mesh = fleet.Mesh(SERVICE, POD, AT_HOME, secret(), features=SCOPED)
    assert ports(mesh) == ["0.0.0.0_443", "0.0.0.0_80"]
    assert mesh.told() == []


def test_its_secret_has_to_be_in_its_own_namespace() -> None:
    mesh = fleet.Mesh(SERVICE, POD, gateway(), secret(), features=SCOPED)
    assert mesh.told() == [("UNKNOWN_CREDENTIAL", "gw", "spec.servers")]


def test_only_pods_of_its_namespace_are_spoken_of() -> None:
    bare = fleet.proxy("gw-1", "istio-system", "router", LABELS={"app": "gw"})
    for item, lacking in ((gateway(credentialName="sds://a"), 0), (AT_HOME.replace("web-cert", "sds://a"), 1)):
        mesh = fleet.Mesh(SERVICE, POD, item, features=SCOPED)
        assert len(tuple(unserved.findings(mesh.context, [bare]))) == lacking


@pytest.mark.parametrize(("item", "asked"), [(gateway(), 0), (AT_HOME, 1)])
def test_nobody_else_is_asked_about(item: str, asked: int) -> None:
    store = ConfigStore(lambda _: None, SCOPED)
    for text in (POD, item):
        store.apply(fleet.parsed(text))
    assert len(secret_users.build(store.snapshot()).accounts) == asked

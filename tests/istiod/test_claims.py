from __future__ import annotations

import time
from dataclasses import replace

import pytest
import yaml

from crds.parse import parse
from crds.service_entry import WorkloadEntry
from istiod import app
from istiod.config.protocols import RefusedError
from istiod.config.proxy import Peer, Proxy
from istiod.config.store import ConfigStore
from istiod.mesh import claims, context
from istiod.pipeline import Pipeline
from istiod.settings import Settings
from wire import node
from wire.spiffe import Identity

POD = """
apiVersion: v1
kind: Pod
metadata: {name: payments-abc, namespace: shop}
spec: {serviceAccountName: payments, containers: [{name: app, image: x}]}
status: {podIP: 10.244.0.9}
"""


def store() -> ConfigStore:
    made = ConfigStore()
    found = parse(yaml.safe_load(POD)).object
    assert found is not None
    made.apply(found)
    return made


def proxy(account: str | None, pod: str = "payments-abc") -> Proxy:
    identity = Identity("cluster.local", "shop", account) if account else None
    said = node.parse(f"sidecar~10.244.0.9~{pod}.shop~shop.svc.cluster.local", {"NAMESPACE": "shop"})
    return Proxy(peer=Peer(address="ipv4:127.0.0.1:1", identity=identity), node=said)


def test_a_pod_is_only_who_has_its_account() -> None:
    mesh = context.build(store().snapshot())
    assert claims.refusal(mesh, proxy("payments")) == ""
    assert claims.refusal(mesh, proxy("weak")) == (
        "pod shop/payments-abc runs as service account payments,"
        " the certificate is of spiffe://cluster.local/ns/shop/sa/weak"
    )


@pytest.mark.parametrize(("account", "pod"), [("weak", "unknown"), (None, "payments-abc")])
def test_an_unknown_pod_and_a_plaintext_peer_are_taken_at_their_word(account: str | None, pod: str) -> None:
    assert claims.refusal(context.build(store().snapshot()), proxy(account, pod)) == ""


def test_where_all_pods_are_known_one_has_to_be_one_of_them_at_its_address() -> None:
    """Row SEC4 of the hostile inputs."""
    mesh = context.build(store().snapshot())
    assert claims.refusal(mesh, proxy("payments"), pods_known=True) == ""
    unknown = "there is no pod shop/unknown that spiffe://cluster.local/ns/shop/sa/weak could be"
    assert claims.refusal(mesh, proxy("weak", "unknown"), pods_known=True) == unknown
    elsewhere = proxy("payments")
    moved = replace(elsewhere, node=replace(elsewhere.node, addresses=("10.244.0.7",)))
    assert claims.refusal(mesh, moved) == ""
    said = "pod shop/payments-abc has 10.244.0.9, the node claims 10.244.0.7"
    assert claims.refusal(mesh, moved, pods_known=True) == said


async def test_who_claims_the_pod_of_another_account_gets_no_configuration() -> None:
    """Row SEC4 of the hostile inputs."""
    pipeline = Pipeline(store(), lambda _: None, time.monotonic)
    pipeline.open()
    pipeline.push()
    with pytest.raises(RefusedError, match="runs as service account payments"):
        pipeline.subscribe(proxy("weak"), lambda _target, _changed: None)


async def test_a_trust_domain_that_the_ca_does_not_issue_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    plane = app.ControlPlane(Settings(config_dirs=(".",), mtls_address="127.0.0.1:0"))
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "trustDomain: my.org"},
    }
    found = parse(config).object
    assert found is not None
    plane._store.apply(found)
    plane._pipeline.push()
    said = capsys.readouterr().err
    assert "M0005 ConfigMap/istio-system/istio data.mesh: trustDomain my.org is not cluster.local" in said


async def test_a_proxy_that_wants_to_be_registered_registers_nothing() -> None:
    """SEC69: nothing that a proxy says of itself becomes an object, an endpoint or a label of anybody's."""
    known = store()
    pipeline = Pipeline(known, lambda _: None, time.monotonic)
    pipeline.open()
    pipeline.push()
    said = {"NAMESPACE": "shop", "AUTO_REGISTER_GROUP": "payments", "LABELS": {"app": "payments"}, "NAME": "intruder"}
    intruder = node.parse("sidecar~10.244.0.9~intruder.shop~shop.svc.cluster.local", said)
    before, pods = list(known.snapshot()), pipeline.context.backends.pods
    peer = Peer(address="ipv4:127.0.0.1:1", identity=Identity("cluster.local", "shop", "weak"))
    pipeline.subscribe(Proxy(peer=peer, node=intruder), lambda _target, _changed: None)
    pipeline.push()
    assert list(known.snapshot()) == before
    assert pipeline.context.backends.pods == pods


ENTRY = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: shop}
spec: {address: 10.0.0.7, serviceAccount: machine}
"""


def test_a_workload_lives_where_a_pod_or_an_entry_of_its_account_is_at_its_address() -> None:
    pods = context.build(store().snapshot()).backends.pods.values()
    entry = parse(yaml.safe_load(ENTRY)).object
    assert isinstance(entry, WorkloadEntry)

    def lives(account: str, address: str, namespace: str = "shop") -> bool:
        return claims.lives(pods, [entry], Identity("cluster.local", namespace, account), address)

    assert lives("payments", "10.244.0.9")
    assert lives("machine", "10.0.0.7")
    assert not lives("payments", "10.0.0.7")
    assert not lives("machine", "10.244.0.9")
    assert not lives("machine", "10.0.0.7", "other")
    assert not lives("default", "10.0.0.7")

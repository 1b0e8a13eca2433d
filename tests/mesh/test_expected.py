from __future__ import annotations

import yaml

from crds.parse import parse
from istiod.config.store import ConfigStore
from istiod.mesh import context, expected
from istiod.mesh.context import MeshContext

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: a, {label}}}}}
status: {{phase: Running, podIPs: [{ips}]}}
"""


def mesh(*pods: str) -> MeshContext:
    store = ConfigStore()
    for text in pods:
        found = parse(yaml.safe_load(text)).object
        assert found is not None
        store.apply(found)
    return context.build(store.snapshot())


def pod(name: str, namespace: str, ip: str = "10.0.0.1", label: str = "security.istio.io/tlsMode: istio") -> str:
    return POD.format(name=name, namespace=namespace, label=label, ips=f"{{ip: {ip}}}" if ip else "")


def test_one_proxy_of_each_namespace_with_sidecars_is_expected() -> None:
    pods = pod("b", "shop", "10.0.0.2"), pod("a", "shop"), pod("c", "bank", "fd00::3")
    found = list(expected.proxies(mesh(*pods)))
    assert [one.node.id for one in found] == [
        "sidecar~fd00::3~c.bank~bank.svc.cluster.local",
        "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local",
    ]
    assert found[1].node.labels == {"app": "a", "security.istio.io/tlsMode": "istio"}
    assert found[1].peer.identity is None


def test_one_proxy_of_each_workload_is_expected_too() -> None:
    replicas = pod("a-1", "shop"), pod("a-2", "shop", "10.0.0.2")
    other = pod("b-1", "shop", "10.0.0.3", "security.istio.io/tlsMode: istio, version: v2"), pod("a-1", "bank")
    found = list(expected.workloads(mesh(*replicas, *other)))
    assert [(one.node.namespace, one.node.name) for one in found] == [("bank", "a-1"), ("shop", "a-1"), ("shop", "b-1")]


def test_pods_without_a_sidecar_or_an_address_are_not() -> None:
    assert not list(expected.proxies(mesh(pod("a", "shop", label="x: y"), pod("b", "shop", ""))))

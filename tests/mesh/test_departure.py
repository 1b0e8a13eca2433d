from __future__ import annotations

import yaml

from crds.parse import parse
from istiod.config.store import ConfigStore
from istiod.mesh import context, departure
from istiod.mesh.context import MeshContext
from istiod.mesh.departure import Replica

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {clusterIP: 10.1.0.2, selector: {app: other}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {clusterIP: 10.1.0.3, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, namespace: shop, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.1], conditions: {ready: false, terminating: true}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: old, namespace: shop}
spec:
  hosts: [old.example.org]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: web}}
"""
CONTROL = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: istio-system}}
spec: {{serviceAccountName: {account}}}
status: {{phase: Running, podIPs: [{{ip: "{ip}"}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-{name}, namespace: istio-system, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{port}]
endpoints: [{{addresses: ["{ip}"], targetRef: {{kind: Pod, name: {name}}}}}, {{addresses: ["10.9.9.9"]}}]
"""


def built(text: str) -> MeshContext:
    store = ConfigStore()
    for document in yaml.safe_load_all(text):
        found = parse(document).object
        assert found is not None
        store.apply(found)
    return context.build(store.snapshot())


def control(name: str, ip: str, service: str = "istiod", port: str = "{name: https-dns, port: 15012}") -> str:
    return CONTROL.format(name=name, ip=ip, service=service, port=port, account=service)


def test_a_pod_answers_for_hosts_that_name_it_or_select_it() -> None:
    found = departure.of(built(MESH), "shop", "web-1")
    assert found is not None
    assert found.identity == "spiffe://cluster.local/ns/shop/sa/web"
    assert found.addresses == ("10.0.0.1", "fd00::1")
    domain = "shop.svc.cluster.local"
    assert found.hosts == {f"web.{domain}", f"by-hand.{domain}", "old.example.org"}


def test_a_pod_that_nobody_knows_has_no_departure() -> None:
    assert departure.of(built(MESH), "shop", "web-2") is None


def test_replicas_are_pods_behind_the_control_planes_services_of_all_revisions() -> None:
    text = "---".join(
        (
            control("me", "10.0.1.1"),
            control("you", "10.0.1.2"),
            control("six", "fd00::2", port="{name: webhook, port: 443}"),
            control("canary", "10.0.1.3", "istiod-canary", "{name: https-dns, port: 25012}"),
            control("else", "10.0.1.4", "istiodish"),
            MESH,
        )
    )
    found = list(departure.replicas(built(text), "istio-system", "me"))
    account = "spiffe://cluster.local/ns/istio-system/sa"
    assert found == [
        Replica(address="10.0.1.2:15012", identity=f"{account}/istiod"),
        Replica(address="10.0.1.3:25012", identity=f"{account}/istiod-canary"),
        Replica(address="[fd00::2]:15012", identity=f"{account}/istiod"),
    ]
    assert not list(departure.replicas(built(text), "shop", "me"))


def test_peers_are_replicas_behind_a_service_that_is_ours_as_well() -> None:
    text = "---".join(
        (
            control("me", "10.0.1.1"),
            control("you", "10.0.1.2"),
            control("canary", "10.0.1.3", "istiod-canary", "{name: https-dns, port: 25012}"),
            MESH,
        )
    )
    mesh = built(text)
    assert [each.address for each in departure.peers(mesh, "istio-system", "me")] == ["10.0.1.2:15012"]
    assert not list(departure.peers(mesh, "istio-system", "canary"))
    assert not list(departure.peers(mesh, "istio-system", "stranger"))

from __future__ import annotations

import json

from bench import cluster_api
from crds.parse import parse
from istiod.watch.strip import strip
from tests.watch.cluster import made


def test_a_pod_shrinks_to_what_is_read_and_means_the_same() -> None:
    raw = {"apiVersion": "v1", "kind": "Pod", **cluster_api.pod(7)}
    kept = strip("Pod", raw)
    assert len(json.dumps(kept)) < len(json.dumps(raw)) / 8
    item = parse(kept).object
    assert item is not None
    assert item.model_dump(by_alias=True)["spec"]["containers"][0]["ports"][0]["containerPort"] == 8080
    assert item.model_dump()["status"]["conditions"][0]["type"] == "Ready"
    assert item.metadata.owner_references[0].kind == "ReplicaSet"


def test_what_others_write_all_the_time_makes_no_difference() -> None:
    raw = made("EndpointSlice", "a", addressType="IPv4", ports=[], endpoints=[{"addresses": ["10.0.0.1"]}])
    touched = {**raw, "metadata": {**raw["metadata"], "annotations": {"endpoints.kubernetes.io/last-change": "now"}}}
    assert strip("EndpointSlice", raw) == strip("EndpointSlice", touched)
    node = made("Node", "n", status={"addresses": [], "conditions": [{"lastHeartbeatTime": "1"}]})
    beat = {**node, "status": {"addresses": [], "conditions": [{"lastHeartbeatTime": "2"}]}}
    assert strip("Node", node) == strip("Node", beat)
    target = {"kind": "Pod", "name": "a", "namespace": "shop", "resourceVersion": "1"}
    kept = strip("EndpointSlice", {**raw, "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": target}]})
    assert "resourceVersion" not in kept["endpoints"][0]["targetRef"]


def test_of_a_service_and_an_entry_the_addresses_that_others_gave_are_kept() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}, "conditions": []}
    assert strip("Service", made("Service", "a", spec={}, status=status))["status"] == {
        "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}
    }
    assert "status" not in strip("Service", made("Service", "a", spec={}))
    entry = made("ServiceEntry", "a", spec={}, status={"addresses": [{"value": "240.0.0.1"}], "conditions": []})
    assert strip("ServiceEntry", entry)["status"] == {"addresses": [{"value": "240.0.0.1"}]}
    for odd in (None, {"addresses": 5}, {"addresses": "odd"}, "odd"):
        assert "status" not in strip("ServiceEntry", made("ServiceEntry", "a", spec={}, status=odd))


def test_kubectls_copy_of_an_object_is_not_kept_and_other_annotations_are() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "networking.istio.io/exportTo": "."}
    kept = strip("VirtualService", made("VirtualService", "a", annotations=annotations, spec={}, status={"a": "b"}))
    assert kept["metadata"]["annotations"] == {"networking.istio.io/exportTo": "."}
    assert set(kept) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(strip("Namespace", made("Namespace", "a", spec={"finalizers": []}))) == {
        "apiVersion",
        "kind",
        "metadata",
    }


def test_a_plain_pod_has_no_empty_parts() -> None:
    kept = strip("Pod", made("Pod", "a", spec={"containers": [{"name": "app"}]}, status={"phase": "Pending"}))
    assert kept["spec"] == {}
    assert kept["status"] == {"phase": "Pending"}
    assert "generateName" not in kept["metadata"]


def test_of_a_pods_annotations_the_one_that_the_mesh_reads_is_kept() -> None:
    raw = made("Pod", "a", spec={})
    raw["metadata"]["annotations"] = {"proxy.istio.io/config": "{}", "cni.example.org/ips": "10.0.0.1"}
    assert strip("Pod", raw)["metadata"]["annotations"] == {"proxy.istio.io/config": "{}"}


def test_a_node_keeps_where_it_is_and_what_the_injector_asks() -> None:
    info = {"kubeletVersion": "v1.36.3", "kernelVersion": "6.1"}
    kept = strip("Node", made("Node", "n", status={"addresses": [], "nodeInfo": info, "images": []}))
    assert kept["status"] == {"addresses": [], "nodeInfo": {"kubeletVersion": "v1.36.3"}}


def test_what_is_malformed_is_left_for_the_parser() -> None:
    raw = made("Pod", "a", spec={"containers": "none"})
    assert strip("Pod", raw) is raw
    assert parse(raw).diagnostics


def test_of_a_workload_entrys_status_its_health_is_kept() -> None:
    conditions = [{"type": "Healthy", "status": "True", "message": "well"}, {"type": "Accepted", "status": "True"}]
    kept = strip("WorkloadEntry", made("WorkloadEntry", "a", spec={}, status={"conditions": conditions}))
    assert kept["status"] == {"conditions": [{"type": "Healthy", "status": "True"}]}
    for odd in ({}, {"conditions": 5}, {"conditions": ["odd"]}, "odd"):
        assert "status" not in strip("WorkloadEntry", made("WorkloadEntry", "a", spec={}, status=odd))

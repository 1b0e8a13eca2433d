from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from crds.key import ConfigKey
from istiod.config import resource
from istiod.config.origin import Origin
from wire import names


def cluster(name: str, alt: str = "") -> resource.Resource:
    body = cluster_pb2.Cluster(name=name, alt_stat_name=alt).SerializeToString(deterministic=True)
    return resource.make(name, names.CLUSTER, body)


@given(st.text(min_size=1, max_size=300), st.text(max_size=20_000))
def test_frames_are_what_envoy_reads(name: str, alt: str) -> None:
    made = cluster(name, alt)
    whole = discovery_pb2.DiscoveryResponse.FromString(made.any_frame)
    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(made.delta_frame)
    assert delta.resources[0].name == name
    assert delta.resources[0].version == made.version
    assert delta.resources[0].resource == whole.resources[0]
    unpacked = cluster_pb2.Cluster()
    assert whole.resources[0].Unpack(unpacked)
    assert (unpacked.name, unpacked.alt_stat_name) == (name, alt)


def test_the_version_is_the_content() -> None:
    assert cluster("a").version == cluster("a").version
    assert cluster("a").version != cluster("a", "other").version


def test_a_set_looks_through_its_layers() -> None:
    a, b = cluster("a"), cluster("b")
    found = resource.ResourceSet(layers={names.CLUSTER: ({"a": a}, {"b": b})})
    assert found.get(names.CLUSTER, "b") is b
    assert found.get(names.CLUSTER, "c") is None
    assert found.get(names.ROUTE, "a") is None
    assert list(found.of(names.CLUSTER)) == [a, b]
    assert (found.count(names.CLUSTER), found.count(names.ROUTE)) == (2, 0)


def test_an_origin_names_object_and_field() -> None:
    key = ConfigKey("networking.istio.io", "VirtualService", "default", "reviews")
    assert str(Origin(key=key, field="spec.http[0]")) == "VirtualService/default/reviews#spec.http[0]"
    assert str(Origin(key=key)) == "VirtualService/default/reviews"

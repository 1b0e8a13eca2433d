from __future__ import annotations

import pytest

from wire import node, spiffe


def test_a_node_takes_namespace_labels_and_addresses_from_its_metadata() -> None:
    found = node.parse(
        "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local",
        {"NAMESPACE": "store", "LABELS": {"app": "web"}, "INSTANCE_IPS": "10.0.0.1,fd00::1", "NAME": "web-1"},
    )
    assert found.type is node.NodeType.SIDECAR
    assert found.namespace == "store"
    assert found.labels == {"app": "web"}
    assert found.addresses == ("10.0.0.1", "fd00::1")


@pytest.mark.parametrize(
    ("node_id", "namespace", "name"),
    [
        ("router~10.0.0.1~gw.istio-system~istio-system.svc.cluster.local", "istio-system", "gw"),
        ("sidecar~10.0.0.1~plain~shop.svc.cluster.local", "shop", "plain"),
    ],
    ids=["from the id", "from the domain"],
)
def test_without_metadata_the_namespace_comes_from_the_id(node_id: str, namespace: str, name: str) -> None:
    found = node.parse(node_id, {})
    assert (found.namespace, found.name, found.addresses) == (namespace, name, ("10.0.0.1",))
    assert found.labels == {}


@pytest.mark.parametrize("node_id", ["sidecar~10.0.0.1~web", "waypoint~1.1.1.1~a.b~c", ""])
def test_an_id_of_another_form_is_refused(node_id: str) -> None:
    with pytest.raises(ValueError, match="node id"):
        node.parse(node_id, {})


@pytest.mark.parametrize(
    ("node_id", "metadata"),
    [
        ("sidecar~10.0.0.1~a\nb.shop~d", {}),
        ("sidecar~10.0.0.1~a.shop~d", {"NAMESPACE": "shop\nERROR all is lost"}),
        ("sidecar~10.0.0.1~a.shop~d", {"SERVICE_ACCOUNT": "\x1b[2J"}),
        ("sidecar~10.0.0.1~a.shop~d", {"NAME": "a\rb"}),
    ],
)
def test_a_node_that_would_write_lines_of_its_own_into_logs_is_refused(
    node_id: str, metadata: dict[str, object]
) -> None:
    """Row SEC79 of the hostile inputs."""
    with pytest.raises(ValueError, match="control characters"):
        node.parse(node_id, metadata)


def test_an_identity_survives_its_uri() -> None:
    identity = spiffe.Identity("cluster.local", "default", "bookinfo-reviews")
    assert spiffe.parse(str(identity)) == identity


@pytest.mark.parametrize(
    "uri",
    [
        "http://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a",
        "spiffe://td/ns//sa/b",
        "spiffe://td/x/a/sa/b",
        "spiffe://td/ns/a%2Fb/sa/c",
        "spiffe://td/ns/a/sa/b?c",
        "spiffe://td/ns/a/sa/b\n",
        "spiffe://td/ns/a/sa/b/../c",
        "spiffe://td/ns/a/sa/..",
        "SPIFFE://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/\u0431",
        "spiffe://td//a/sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://td@x/ns/a/sa/b",
        "spiffe://td/ns/a/sa/" + "b" * 10_240,
    ],
)
def test_a_uri_of_another_form_is_no_identity(uri: str) -> None:
    """Row SEC18 of the hostile inputs."""
    with pytest.raises(ValueError, match="is not spiffe"):
        spiffe.parse(uri)

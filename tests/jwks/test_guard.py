from __future__ import annotations

import pytest

from crds.parse import parse
from istiod.config.store import ConfigStore
from istiod.jwks import services
from istiod.jwks.guard import Guard

PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "not an address",
    "012.0.0.1",
    "",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_local_and_reserved_addresses_are_blocked(address: str) -> None:
    """Row SEC54 of the hostile inputs."""
    assert not Guard().lets(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_not(address: str) -> None:
    assert Guard().lets(address)
    assert not Guard(blocked=("8.8.0.0/16", "2001:4860::/32")).lets(address)


def test_what_is_allowed_counts_more_than_what_is_blocked() -> None:
    guard = Guard(blocked=("10.0.0.0/8",), allowed=("10.1.0.0/16", "127.0.0.0/8"))
    assert guard.lets("10.1.2.3")
    assert guard.lets("::ffff:127.0.0.1")
    assert not guard.lets("10.2.2.3")
    assert not guard.lets("192.168.1.1")


def test_a_service_of_the_mesh_is_asked_at_its_own_address_only() -> None:
    own = frozenset({"10.96.0.7"})
    assert Guard().lets("10.96.0.7", own)
    assert not Guard().lets("10.96.0.8", own)
    assert not Guard(blocked=("10.96.0.0/12",)).lets("10.96.0.7", own)


def service(name: str, namespace: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": 80}], **spec},
    }


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("idp.auth", {"10.96.0.7", "fd00::7"}),
        ("idp.auth.svc", {"10.96.0.7", "fd00::7"}),
        ("idp.auth.svc.cluster.local", {"10.96.0.7", "fd00::7"}),
        ("idp.auth.svc.cluster.local.", {"10.96.0.7", "fd00::7"}),
        ("idp.auth.svc.other.domain", set()),
        ("idp", set()),
        ("other.auth", set()),
        ("headless.auth", set()),
        ("kubernetes.default", set()),
        ("kubernetes.default.svc.cluster.local", set()),
        ("example.com", set()),
        ("", set()),
    ],
)
def test_a_name_of_the_mesh_stands_for_its_cluster_addresses(host: str, expected: set[str]) -> None:
    store = ConfigStore()
    for each in (
        service("idp", "auth", clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"]),
        service("headless", "auth", clusterIP="None", clusterIPs=["None"]),
        service("kubernetes", "default", clusterIP="10.96.0.1"),
    ):
        found = parse(each).object
        assert found is not None
        store.apply(found)
    assert services.addresses(store, host, "cluster.local") == expected

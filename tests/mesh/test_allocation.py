from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigStore
from istiod.features import Features
from istiod.mesh import allocation, context, sources
from istiod.mesh.context import MeshContext
from tests.mesh import fleet

PORTS = [{"number": 5432, "name": "tcp", "protocol": "TCP"}]
HELD = ["240.240.0.9", "2001:2::9", "junk"]
ENTRY = fleet.dump(
    "networking.istio.io/v1",
    "ServiceEntry",
    "db",
    spec={"hosts": ["db.example"], "ports": PORTS, "resolution": "DNS"},
    status={"addresses": [{"host": "db.example", "value": value} for value in HELD]},
)
KEY = ConfigKey(NETWORKING, "ServiceEntry", "default", "db")


def entry(*hosts: str, name: str = "db", labels: dict[str, str] | None = None, **spec: object) -> str:
    said = {"hosts": list(hosts), "ports": PORTS, "resolution": "DNS", **spec}
    return fleet.istio("ServiceEntry", name, said, labels=labels or {})


def listeners(text: str = ENTRY, **metadata: object) -> list[tuple[str, ...]]:
    found = fleet.Mesh(text).scope(fleet.proxy(**metadata)).outbound.listeners.values()
    return [(one.address, *one.additional_addresses) for one in found if one.port == 5432]


def allocated(mesh: MeshContext, host: str) -> tuple[str, ...]:
    service = mesh.model.registry.get(host, "default")
    assert service is not None
    return service.allocated


def test_a_proxy_that_captures_dns_knows_the_allocated_addresses_of_its_families() -> None:
    assert listeners() == [("0.0.0.0",)]
    assert listeners(DNS_CAPTURE="true") == [("240.240.0.9",)]
    both = listeners(DNS_CAPTURE="true", INSTANCE_IPS="10.1.9.9,2001:db8::1,junk")
    assert both == [("240.240.0.9", "2001:2::9")]


def test_what_a_status_calls_an_address_and_is_none_does_not_count() -> None:
    said = [{"value": one} for one in ("", "x", "240.240.0.0/16", "fe80::1%eth0", "1.2.3.4.5")]
    text = fleet.dump(
        "networking.istio.io/v1",
        "ServiceEntry",
        "db",
        spec={"hosts": ["db.example"], "ports": PORTS, "resolution": "DNS"},
        status={"addresses": said},
    )
    assert allocated(fleet.Mesh(text).context, "db.example") == allocated(
        fleet.Mesh(entry("db.example")).context, "db.example"
    )


def test_a_host_without_an_address_anywhere_has_one_of_its_own() -> None:
    mesh = fleet.Mesh(entry("a.example", "b.example"))
    four, six = allocated(mesh.context, "a.example")
    assert ip_address(four) in ip_network("240.240.0.0/16")
    assert ip_address(six) in ip_network("2001:2::/48")
    assert allocated(mesh.context, "b.example") != (four, six)
    assert sources.given(mesh.context.sources, KEY) == (
        *(("a.example", one) for one in (four, six)),
        *(("b.example", one) for one in allocated(mesh.context, "b.example")),
    )
    mesh.apply(entry("c.example", name="other"), fleet.kube_service("web"))
    assert allocated(mesh.context, "a.example") == (four, six)
    before = mesh.context.model.registry
    mesh.apply(fleet.pod("web-1", "10.1.0.1"))
    assert mesh.context.model.registry is before


@pytest.mark.parametrize(
    ("text", "host", "has"),
    [
        (entry("a.example"), "a.example", True),
        (entry("a.example", resolution="STATIC", endpoints=[{"address": "192.0.2.1"}]), "a.example", True),
        (entry("a.example", resolution="NONE"), "a.example", False),
        (entry("a.example", addresses=["192.0.2.1"]), "a.example", False),
        (entry("a.example", labels={allocation.LABEL: "false"}), "a.example", False),
        (entry("a.example", labels={allocation.LABEL: "true"}), "a.example", True),
        (entry("*.example", resolution="STATIC", endpoints=[{"address": "192.0.2.1"}]), "*.example", False),
        (
            entry("*.example", resolution="DYNAMIC_DNS", ports=[{"number": 443, "name": "tls", "protocol": "TLS"}]),
            "*.example",
            True,
        ),
    ],
)
def test_who_gets_an_address(text: str, host: str, has: bool) -> None:  # noqa: FBT001 (a table's column)
    assert bool(allocated(fleet.Mesh(text).context, host)) is has


def test_a_status_holds_also_against_a_host_that_would_be_given_its_address() -> None:
    first = fleet.Mesh(entry("a.example"))
    four, six = allocated(first.context, "a.example")
    taken = fleet.dump(
        "networking.istio.io/v1",
        "ServiceEntry",
        "taker",
        spec={"hosts": ["taker.example"], "ports": PORTS, "resolution": "DNS"},
        status={"addresses": [{"value": four}, {"value": six}]},
    )
    mesh = fleet.Mesh(entry("a.example"), taken)
    assert allocated(mesh.context, "taker.example") == (four, six)
    assert allocated(mesh.context, "a.example")[0] != four
    off = fleet.dump(
        "networking.istio.io/v1",
        "ServiceEntry",
        "db",
        labels={allocation.LABEL: "false"},
        spec={"hosts": ["db.example"], "ports": PORTS, "resolution": "DNS"},
        status={"addresses": [{"value": four}]},
    )
    assert allocated(fleet.Mesh(off).context, "db.example") == ()


def test_an_agent_that_answers_queries_has_names_also_without_allocated_addresses() -> None:
    found = fleet.Mesh(fleet.kube_service("web"), features=Features(allocate_addresses=False))
    assert [one.host for one in found.scope(fleet.proxy(DNS_CAPTURE="true")).outbound.names or ()] == [
        "web.default.svc.cluster.local"
    ]
    assert found.scope(fleet.proxy()).outbound.names is None


def test_the_old_way_counts_names_only_and_asks_proxies() -> None:
    store = ConfigStore(features=Features(allocate_addresses=False))
    store.apply(fleet.parsed(ENTRY))
    store.apply(fleet.parsed(entry("*.example", name="wild", endpoints=[{"address": "a.example"}])))
    found = context.build(store.snapshot())
    assert allocated(found, "db.example")[0] not in HELD
    assert allocated(found, "*.example") == ()
    assert sources.given(found.sources, KEY) == ()
    node = fleet.proxy(DNS_CAPTURE="true").node
    assert allocation.wanted(node) == (4,)
    assert allocation.wanted(node, always=False) == ()
    assert allocation.wanted(fleet.proxy(DNS_CAPTURE="1", DNS_AUTO_ALLOCATE="true").node, always=False) == (4,)


def test_of_objects_that_are_not_read_nothing_is_said() -> None:
    mesh = fleet.Mesh(entry("a.example"), entry("a.example", name="same"))
    assert sources.given(mesh.context.sources, KEY._replace(name="nobody")) is None
    assert sources.given(mesh.context.sources, KEY._replace(kind="Sidecar")) == ()
    assert sources.given(mesh.context.sources, KEY._replace(name="same")) == ()


@given(hosts=st.lists(st.sampled_from([f"h{n}.example" for n in range(4000)]), unique=True, max_size=400))
def test_no_two_hosts_share_an_address_and_no_address_is_odd(hosts: list[str]) -> None:
    found = allocation.allocate([(host, "default") for host in hosts], {})
    assert found.keys() == {(host, "default") for host in hosts}
    for version in (0, 1):
        assert len({one[version] for one in found.values()}) == len(hosts)
    assert not [one for one, _ in found.values() if one.endswith((".0", ".255"))]


def test_a_full_range_gives_no_more() -> None:
    many = [(f"h{n}.example", "default") for n in range(33_000)]
    found = allocation.allocate(many, {("other", "x"): ("192.0.2.1", "junk")})
    assert 32_000 < len(found) < len(many)

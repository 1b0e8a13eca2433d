from __future__ import annotations

from tests.mesh import fleet

ENTRY = fleet.dump(
    "networking.istio.io/v1",
    "ServiceEntry",
    "db",
    spec={"hosts": ["db.example"], "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP"}], "resolution": "DNS"},
    status={"addresses": [{"host": "db.example", "value": value} for value in ("240.240.0.9", "2001:2::9", "junk")]},
)


def listeners(**metadata: object) -> list[tuple[str, ...]]:
    found = fleet.Mesh(ENTRY).scope(fleet.proxy(**metadata)).outbound.listeners.values()
    return [(one.address, *one.additional_addresses) for one in found if one.port == 5432]


def test_a_proxy_that_captures_dns_knows_the_allocated_addresses_of_its_families() -> None:
    assert listeners() == [("0.0.0.0",)]
    assert listeners(DNS_CAPTURE="true") == [("240.240.0.9",)]
    both = listeners(DNS_CAPTURE="true", INSTANCE_IPS="10.1.9.9,2001:db8::1,junk")
    assert both == [("240.240.0.9", "2001:2::9")]

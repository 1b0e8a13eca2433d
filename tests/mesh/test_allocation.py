from __future__ import annotations

from istiod.mesh import allocation
from tests.mesh import fleet

ENTRY = fleet.dump(
    "networking.istio.io/v1",
    "ServiceEntry",
    "db",
    spec={"hosts": ["db.example"], "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP"}], "resolution": "DNS"},
    status={"addresses": [{"host": "db.example", "value": value} for value in ("240.240.0.9", "2001:2::9", "junk")]},
)


def listeners(ip: str = "10.1.9.9", **metadata: object) -> list[str]:
    scope = fleet.Mesh(ENTRY).scope(fleet.proxy(ip=ip, **metadata))
    return sorted(name for name in scope.outbound.listeners if name.endswith("5432"))


def test_a_proxy_that_captures_dns_knows_the_allocated_addresses_of_its_families() -> None:
    assert listeners() == ["0.0.0.0_5432"]
    assert listeners(DNS_CAPTURE="true") == ["240.240.0.9_5432"]
    both = listeners(DNS_CAPTURE="true", INSTANCE_IPS="10.1.9.9,2001:db8::1,junk")
    assert both == ["2001:2::9_5432", "240.240.0.9_5432"]


def test_families_are_those_of_real_addresses() -> None:
    assert allocation.families(("10.0.0.1", "junk", "::1", "10.0.0.2")) == (4, 6)

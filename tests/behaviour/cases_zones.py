"""Zone-aware balancing: calls stay in the client's zone as far as that is fair to the others."""

from __future__ import annotations

from collections import Counter

from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import HOST, policy
from tests.behaviour.cases_mesh import mesh
from tests.behaviour.rig import Rig

CASES = Cases()
BESIDE = r"(ServiceEntry|Service|EndpointSlice|Pod).*"
ENDPOINTS = """
---
kind: ServiceEntry
spec:
  hosts: [zoned.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints:
  - {address: $ip1, locality: r1/z1/s1, labels: {tier: a}}
  - {address: $ip2, locality: r1/z2/s1, labels: {tier: a}}
  - {address: $ip3, locality: r1/z2/s1, labels: {tier: b}}
  - {address: $ip4, locality: r1/z1/s2, labels: {tier: b}}
"""
PEERS = """
---
kind: Service
metadata: {name: client}
spec: {clusterIP: 10.0.0.21, selector: {app: client}, ports: [{name: http, port: 7, targetPort: $app}]}
---
kind: EndpointSlice
metadata: {name: client-1, labels: {kubernetes.io/service-name: client}}
addressType: IPv4
ports: [{name: http, port: $app}]
endpoints:
- {addresses: [$ip10], conditions: {ready: true}, targetRef: {kind: Pod, name: client-1, namespace: default}}
- {addresses: [$ip15], conditions: {ready: true}, targetRef: {kind: Pod, name: client-2, namespace: default}}
"""
POD = """
---
kind: Pod
metadata:
  name: client-%s
  labels:
    app: client
    role: client
    security.istio.io/tlsMode: disabled
    service.istio.io/workload-name: client
    istio-locality: r1.%s.s1
    tier: a
spec: {serviceAccountName: client, containers: []}
status: {podIP: $ip%s, podIPs: [{ip: $ip%s}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
"""


def peers(other: str) -> str:
    """The client in zone z1, and its other pod somewhere."""
    return PEERS + POD % (1, "z1", 10, 10) + POD % (2, other, 15, 15)


def zoned(text: str, other: str = "z2") -> str:
    """A rule for four endpoints, two in each of two zones."""
    return policy(f"loadBalancer: {{zoneAwareLbSetting: {{{text}}}}}", "zoned.example", ENDPOINTS + peers(other))


async def _asked(rig: Rig, count: int = 40) -> Counter[str]:
    return Counter(await rig.names(count, host="zoned.example"))


@CASES(zoned("minClusterSize: 4"), BESIDE, HOST)
async def calls_stay_in_their_zone(rig: Rig) -> None:
    """The client has a pod in each zone, and so has the service two: each zone looks after itself."""
    assert set(await _asked(rig)) == {"web-1", "shop-1"}


@CASES(zoned("minClusterSize: 4", "z1"), BESIDE, HOST, r".*minClusterSize")
async def calls_leave_a_zone_that_has_too_many_clients(rig: Rig) -> None:
    """All clients are in one zone: half of their calls go to the half of the endpoints that is not."""
    found = await _asked(rig, 120)
    assert set(found) == {"web-1", "web-2", "web-3", "shop-1"}
    assert 36 <= found["web-1"] + found["shop-1"] <= 84


@CASES(zoned("minClusterSize: 5"), BESIDE, HOST, r".*minClusterSize")
async def few_endpoints_are_all_asked(rig: Rig) -> None:
    assert len(await _asked(rig)) == 4


@CASES(
    mesh("zoneAwareLbSetting: {minClusterSize: 4}", f"---\n{zoned('enabled: false, minClusterSize: 4')}"),
    BESIDE,
    r".*minClusterSize",
    HOST,
)
async def a_rule_switches_it_off(rig: Rig) -> None:
    assert len(await _asked(rig)) == 4


@CASES(zoned("minClusterSize: 1, failoverPriority: [tier]"), BESIDE, HOST, r".*minClusterSize")
async def those_who_share_a_label_come_first_in_each_zone(rig: Rig) -> None:
    """Of the four two have the client's tier, one in each zone: its own zone's is asked."""
    assert set(await _asked(rig)) == {"web-1"}


REGIONS = ENDPOINTS.replace("r1/z1/s1", "r2/z1/s1").replace("r1/z2/s1", "r3/z1/s1").replace("r1/z1/s2", "r2/z1/s1")
FAR = "failover: [{from: r1, to: r3}]"


@CASES(policy(f"loadBalancer: {{zoneAwareLbSetting: {{{FAR}}}}}", "zoned.example", REGIONS + peers("z2")), BESIDE, HOST)
async def another_region_where_the_own_has_nobody(rig: Rig) -> None:
    assert set(await _asked(rig)) == {"web-2", "web-3"}


@CASES(mesh("zoneAwareLbSetting: {minClusterSize: 4}", ENDPOINTS + peers("z2")), BESIDE)
async def zones_count_in_the_mesh(rig: Rig) -> None:
    assert set(await _asked(rig)) == {"web-1", "shop-1"}


@CASES(
    mesh("zoneAwareLbSetting: {enabled: false, minClusterSize: 4}", ENDPOINTS + peers("z2")), BESIDE, r".*minCluster.*"
)
async def zones_count_for_nothing_in_the_mesh(rig: Rig) -> None:
    assert len(await _asked(rig)) == 4


@CASES(
    mesh("zoneAwareLbSetting: {minClusterSize: 1, failoverPriority: [tier]}", ENDPOINTS + peers("z2")),
    BESIDE,
    r".*minClusterSize",
)
async def those_who_share_a_label_come_first_in_the_mesh(rig: Rig) -> None:
    assert set(await _asked(rig)) == {"web-1"}


@CASES(mesh(f"zoneAwareLbSetting: {{{FAR}}}", REGIONS + peers("z2")), BESIDE)
async def another_region_of_the_mesh_where_the_own_has_nobody(rig: Rig) -> None:
    assert set(await _asked(rig)) == {"web-2", "web-3"}

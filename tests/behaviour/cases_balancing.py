"""DestinationRule: who is asked: subsets, load balancers, consistent hashes, localities, and who may not be asked."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Answer, Seen
from tests.waiting import until

CASES = Cases()
HOST = r"DestinationRule spec\.host"
PLACES = """
---
kind: ServiceEntry
spec:
  hosts: [spread.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints:
  - {address: $ip1, locality: r1/z1/s1, labels: {rack: a}}
  - {address: $ip2, locality: r1/z2/s1, labels: {rack: b, app: client}}
  - {address: $ip3, locality: r2/z1/s1, labels: {rack: c}}
  - {address: $ip4, locality: r3/z1/s1, labels: {rack: d}}
"""
ENTRY = r"ServiceEntry .*"
OUTLIER = "outlierDetection: {consecutive5xxErrors: 5}"
OUTLIERS = r"DestinationRule spec\.trafficPolicy\.outlierDetection.*"


def policy(text: str, host: str = "web", more: str = "") -> str:
    """A DestinationRule with this traffic policy."""
    return f"kind: DestinationRule\nspec:\n  host: {host}\n  trafficPolicy: {{{text}}}\n{more}"


async def soon(found: Callable[[], Awaitable[bool]]) -> None:
    """Ejections come into force a moment after the answer that caused them."""
    await until(found, "the endpoints are ejected", 1.5)


@CASES(policy("loadBalancer: {simple: ROUND_ROBIN}"))
async def round_robin_by_turns(rig: Rig) -> None:
    found = await rig.names(9)
    assert len(set(found[:3])) == 3
    assert found[:3] == found[3:6] == found[6:]


async def _asked_of_the_busy(rig: Rig) -> int:
    """How many of 90 requests come to the one endpoint of three that has others in hand."""

    gate = asyncio.Event()

    def slow(seen: Seen) -> Answer:
        return Answer(held=gate if seen.path == "/slow" and seen.name == "web-1" else None, body=seen.name)

    rig.servers.answer = slow
    waiting = [asyncio.create_task(rig.ask("/slow")) for _ in range(30)]
    await until(lambda: sum(one.name == "web-1" for one in rig.servers.seen) >= 3, "a few wait", 2)
    found = Counter(await rig.names(90))
    gate.set()
    for each in waiting:
        each.cancel()
    return found["web-1"]


@CASES(policy("loadBalancer: {simple: RANDOM}"))
async def random_is_blind_to_load(rig: Rig) -> None:
    """Least request, the default, asks a server with much to do only where it picked it twice: once in nine."""
    assert await _asked_of_the_busy(rig) > 18


@CASES(policy("loadBalancer: {simple: LEAST_REQUEST}"), r".*")
async def the_busy_are_asked_less(rig: Rig) -> None:
    assert await _asked_of_the_busy(rig) < 23


async def _sticky(rig: Rig, count: int = 12, **said: object) -> set[str]:
    return set(await rig.names(count, **said))  # type: ignore[arg-type]  # by name


async def _by_header(rig: Rig) -> None:
    found = [await _sticky(rig, 6, headers={"x-user": str(user)}) for user in range(24)]
    assert all(len(one) == 1 for one in found)
    assert len(set.union(*found)) > 1


@CASES(policy("loadBalancer: {consistentHash: {httpHeaderName: x-user}}"))
async def hash_of_a_header_by_stickiness(rig: Rig) -> None:
    await _by_header(rig)


@CASES(policy("loadBalancer: {consistentHash: {httpQueryParameterName: user}}"))
async def hash_of_a_query_parameter(rig: Rig) -> None:
    found = [set(await rig.names(6, f"/?user={user}")) for user in range(24)]
    assert all(len(one) == 1 for one in found)
    assert len(set.union(*found)) > 1


@CASES(policy("loadBalancer: {consistentHash: {useSourceIp: true}}"))
async def hash_of_the_source(rig: Rig) -> None:
    found = [await _sticky(rig, 6, source=f"127.3.0.{number}") for number in range(1, 25)]
    assert all(len(one) == 1 for one in found)
    assert len(set.union(*found)) > 1


@CASES(
    policy(
        "loadBalancer: {consistentHash: {httpCookie: {name: user, path: /shop, ttl: 60s,"
        " attributes: [{name: SameSite, value: Strict}]}}}"
    )
)
async def hash_of_a_cookie(rig: Rig) -> None:
    first = await rig.ask()
    cookie = first.headers["set-cookie"]
    assert cookie.startswith('user="')
    assert "Max-Age=60" in cookie
    assert "Path=/shop" in cookie
    assert "SameSite=Strict" in cookie
    own = {"cookie": cookie.partition(";")[0]}
    assert await _sticky(rig, headers=own) == {first.body}


def here(rig: Rig) -> str:
    """Where the statistics of web's first port begin."""
    return rf"cluster\.outbound\|{rig.ports['http']}\|\|web\.default"


@CASES(policy("loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 4096}}}"))
async def size_of_the_ring(rig: Rig) -> None:
    await _by_header(rig)
    assert await rig.stat(rf"{here(rig)}.*ring_hash_lb\.size") >= 4096


@CASES(policy("loadBalancer: {consistentHash: {httpHeaderName: x-user, minimumRingSize: 4096}}"))
async def size_of_the_ring_by_its_old_name(rig: Rig) -> None:
    await _by_header(rig)
    assert await rig.stat(rf"{here(rig)}.*ring_hash_lb\.size") >= 4096


@CASES(policy("loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 101}}}"))
async def size_of_maglevs_table(rig: Rig) -> None:
    await _by_header(rig)
    entries = await rig.stat(rf"{here(rig)}.*maglev_lb\.max_entries_per_host")
    assert 0 < entries < 60


async def _spread(rig: Rig, count: int = 40) -> Counter[str]:
    return Counter(await rig.names(count, host="spread.example"))


@CASES(
    policy(f"loadBalancer: {{localityLbSetting: {{enabled: true}}}}, {OUTLIER}", "spread.example", PLACES),
    ENTRY,
    HOST,
    r".*enabled",
)
async def own_locality_first(rig: Rig) -> None:
    assert set(await _spread(rig)) == {"web-1"}


@CASES(
    policy(f"loadBalancer: {{localityLbSetting: {{enabled: false}}}}, {OUTLIER}", "spread.example", PLACES),
    ENTRY,
    HOST,
    OUTLIERS,
)
async def locality_may_count_for_nothing(rig: Rig) -> None:
    assert len(await _spread(rig)) == 4


@CASES(
    policy(
        "loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r1/z2/*: 30, r2/*: 70}}]}}",
        "spread.example",
        PLACES,
    ),
    ENTRY,
)
async def distribution_by_counting(rig: Rig) -> None:
    found = await _spread(rig, 200)
    assert set(found) == {"web-2", "web-3"}
    assert 30 <= found["web-2"] <= 95


@CASES(
    policy(
        "loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}},"
        " outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 100s, interval: 100s, maxEjectionPercent: 100}",
        "spread.example",
        PLACES,
    ),
    ENTRY,
    r".*(interval|baseEjectionTime|maxEjectionPercent|consecutive5xxErrors)",
)
async def failover_to_the_region_that_is_named(rig: Rig) -> None:
    def home_is_broken(seen: Seen) -> Answer:
        return Answer(status=500 if seen.name in ("web-1", "web-2") else 200, body=seen.name)

    rig.servers.answer = home_is_broken

    async def gone() -> bool:
        return set(await _spread(rig, 20)) == {"shop-1"}

    await soon(gone)


@CASES(
    policy(f"loadBalancer: {{localityLbSetting: {{failoverPriority: [app]}}}}, {OUTLIER}", "spread.example", PLACES),
    ENTRY,
)
async def those_who_share_a_label_first(rig: Rig) -> None:
    assert set(await _spread(rig)) == {"web-2"}


@CASES(
    """
kind: DestinationRule
spec:
  host: web
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
---
kind: VirtualService
spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v2}}]}]}
"""
)
async def subset_by_its_labels_and_policy(rig: Rig) -> None:
    found = await rig.names(12)
    assert set(found) == {"web-2", "web-3"}
    assert all(one != other for one, other in itertools.pairwise(found))


@CASES("""
kind: DestinationRule
spec:
  host: web
  trafficPolicy:
    portLevelSettings: [{port: {number: $http}, loadBalancer: {consistentHash: {httpHeaderName: x-user}}}]
""")
async def settings_of_one_port(rig: Rig) -> None:
    assert len(await _sticky(rig, headers={"x-user": "1"})) == 1
    assert len(await _sticky(rig, headers={"x-user": "1"}, port="http3")) == 3


@CASES(
    """
kind: DestinationRule
metadata: {namespace: other}
spec: {host: web.default.svc.cluster.local, exportTo: [other], trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
---
kind: DestinationRule
metadata: {name: own, namespace: istio-system}
spec: {host: web.default.svc.cluster.local, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
---
kind: DestinationRule
metadata: {name: hidden, namespace: default}
spec: {host: shop, exportTo: [.]}
""",
    r".*exportTo",
    r".*simple",
    r".*host",
)
async def the_root_namespaces_rule_where_no_other_is_exported(rig: Rig) -> None:
    assert len(await _sticky(rig, headers={"x-user": "1"})) == 1


@CASES(
    """
kind: DestinationRule
metadata: {namespace: istio-system}
spec:
  host: web.default.svc.cluster.local
  exportTo: [other]
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
""",
    r".*(host|httpHeaderName)",
)
async def a_rule_for_another_namespace_does_nothing(rig: Rig) -> None:
    assert len(await _sticky(rig, headers={"x-user": "1"})) == 3


@CASES(
    """
kind: DestinationRule
metadata: {name: selecting}
spec:
  host: web
  workloadSelector: {matchLabels: {app: client}}
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
---
kind: DestinationRule
metadata: {name: others}
spec:
  host: spread.example
  workloadSelector: {matchLabels: {app: other}}
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
"""
    + PLACES,
    ENTRY,
)
async def a_rule_for_workloads_of_a_label(rig: Rig) -> None:
    assert len(await _sticky(rig, headers={"x-user": "1"})) == 1
    assert len(await _sticky(rig, 24, headers={"x-user": "1"}, host="spread.example")) == 4

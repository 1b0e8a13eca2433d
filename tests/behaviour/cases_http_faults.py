"""VirtualService: time-outs, retries, faults and mirrors of HTTP requests, by the clock and by counting."""

from __future__ import annotations

from collections import Counter

from tests.behaviour.case import Cases
from tests.behaviour.cases_http_actions import V1, routed
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Answer, Seen, saying
from tests.waiting import until

CASES = Cases()
SHOP = "route: [{destination: {host: shop}}]"
HOST = r".*route\[\]\.destination\.host"


@CASES(routed(f"{{timeout: 0.3s, {SHOP}}}"), HOST)
async def timeout_by_the_clock(rig: Rig) -> None:
    rig.servers.answer = saying(delay=1.5)
    back = await rig.ask()
    assert back.status == 504
    assert 0.25 < back.seconds < 1.3


@CASES(routed(f"{{retries: {{attempts: 3, retryOn: '418', backoff: 1ms}}, {SHOP}}}"), HOST, r".*backoff")
async def attempts_by_counting(rig: Rig) -> None:
    rig.servers.answer = saying(status=418)
    assert (await rig.ask()).status == 418
    assert len(rig.servers.seen) == 4


@CASES(
    routed(
        "{route: [{destination: {host: web}}]}",
        """
---
kind: ServiceEntry
spec:
  hosts: [half.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: $ip1}, {address: $ip9}]
""",
    ),
    r".*",
)
async def two_more_tries_elsewhere_where_nobody_says_more(rig: Rig) -> None:
    """Nobody listens at half of the one host. Where five looks for another endpoint are in vain, the same has it."""
    assert [(await rig.ask(host="half.example")).status for _ in range(12)] == [200] * 12
    rig.servers.forget()
    rig.servers.answer = saying(headers={"grpc-status": "14", "content-type": "application/grpc"})
    for _ in range(10):
        await rig.ask()
    tries = [one.name for one in rig.servers.seen]
    assert len(tries) == 30
    assert sum(first == second for first, second in zip(tries[::3], tries[1::3], strict=True)) <= 2
    rig.servers.answer = saying(status=503)
    await rig.ask()
    assert len(rig.servers.seen) == 31


@CASES(
    routed(f"{{retries: {{attempts: 1, retryOn: gateway-error, backoff: 400ms}}, {SHOP}}}"),
    HOST,
    r".*(attempts|retryOn)",
)
async def the_pause_before_a_retry(rig: Rig) -> None:
    """Envoy waits a random part of it: of a dozen one is long, and with the default of 25 ms none."""
    rig.servers.answer = saying(status=503)
    pauses = []
    for _ in range(8):
        await rig.ask()
        first, second = rig.servers.seen[-2:]
        pauses.append(second.at - first.at)
    assert max(pauses) > 0.15, pauses


@CASES(
    routed(f"{{retries: {{attempts: 2, perTryTimeout: 0.2s, retryOn: gateway-error, backoff: 1ms}}, {SHOP}}}"),
    HOST,
    r".*backoff",
)
async def a_try_has_its_own_time(rig: Rig) -> None:
    def slow_at_first(_: Seen) -> Answer:
        return Answer(delay=1.0 if len(rig.servers.seen) < 3 else 0.0, body="late")

    rig.servers.answer = slow_at_first
    back = await rig.ask()
    assert (back.status, len(rig.servers.seen)) == (200, 3)
    assert 0.35 < back.seconds < 0.95


@CASES(
    routed(
        "{retries: {attempts: 2, retryOn: '503', backoff: 1ms, retryIgnorePreviousHosts: false},"
        " route: [{destination: {host: web, subset: v2}}]}",
        V1,
    ),
    r".*(attempts|retryOn|backoff)",
    r"VirtualService spec\.(hosts|http\[\]\.route.*)",
    r"DestinationRule.*",
)
async def a_retry_may_meet_the_same_host(rig: Rig) -> None:
    """Two endpoints, three tries: with round robin the second is another one, with the default always."""
    rig.servers.answer = saying(status=503)
    for _ in range(20):
        await rig.ask()
    tries = [one.name for one in rig.servers.seen]
    pairs = [tuple(tries[at : at + 2]) for at in range(0, len(tries), 3)]
    assert any(first == second for first, second in pairs)


@CASES(routed(f"{{fault: {{delay: {{fixedDelay: 0.4s, percentage: {{value: 100}}}}}}, {SHOP}}}"), HOST)
async def delay_by_the_clock(rig: Rig) -> None:
    assert 0.35 < (await rig.ask()).seconds < 2
    assert 0.35 < (await rig.ask()).seconds < 2


@CASES(routed(f"{{fault: {{delay: {{fixedDelay: 0.2s, percentage: {{value: 50}}}}}}, {SHOP}}}"), HOST)
async def delay_of_a_part(rig: Rig) -> None:
    slow = [(await rig.ask()).seconds > 0.15 for _ in range(24)]
    assert 3 <= sum(slow) <= 21


@CASES(routed(f"{{fault: {{delay: {{fixedDelay: 0.2s, percent: 50}}}}, {SHOP}}}"), HOST)
async def delay_of_whole_percents(rig: Rig) -> None:
    slow = [(await rig.ask()).seconds > 0.15 for _ in range(24)]
    assert 3 <= sum(slow) <= 21


@CASES(routed(f"{{fault: {{abort: {{httpStatus: 418, percentage: {{value: 30}}}}}}, {SHOP}}}"), HOST)
async def abort_of_a_part(rig: Rig) -> None:
    found = Counter([(await rig.ask()).status for _ in range(120)])
    assert set(found) == {200, 418}
    assert 12 < found[418] < 66


@CASES(routed(f"{{fault: {{abort: {{httpStatus: 418, percent: 30}}}}, {SHOP}}}"), HOST)
async def abort_of_whole_percents(rig: Rig) -> None:
    await abort_of_a_part(rig)


@CASES(
    routed(f"{{fault: {{abort: {{grpcStatus: NOT_FOUND, percentage: {{value: 100}}}}}}, {SHOP}}}"),
    HOST,
    r".*percentage.*",
)
async def abort_of_grpc(rig: Rig) -> None:
    back = await rig.ask(method="POST", headers={"content-type": "application/grpc", "content-length": "0"})
    assert (back.headers.get("grpc-status"), rig.servers.seen) == ("5", [])


async def _mirrored(rig: Rig, count: int, least: int, most: int, *, port: int = 0) -> None:
    rig.servers.forget()
    for _ in range(count):
        assert (await rig.ask("/m")).body == "shop-1"

    def copies() -> list[Seen]:
        return [one for one in rig.servers.seen if one.name != "shop-1"]

    await until(lambda: len(copies()) >= least, f"{least} copies", 3)
    assert len(copies()) <= most
    assert {one.path for one in copies()} == {"/m"}
    assert {one.headers["host"] for one in copies()} == {"web-shadow"}
    assert {one.name for one in copies()} == {"web-1"}
    assert not port or {one.port for one in copies()} == {port}


@CASES(
    routed(f"{{mirror: {{host: web, subset: v1, port: {{number: $http3}}}}, {SHOP}}}", V1), HOST, r"DestinationRule.*"
)
async def mirror_by_what_it_received(rig: Rig) -> None:
    await _mirrored(rig, 5, 5, 5, port=18_081)


@CASES(
    routed(f"{{mirror: {{host: web, subset: v1}}, mirrorPercentage: {{value: 40}}, {SHOP}}}", V1),
    HOST,
    r".*mirror\..*",
    r"DestinationRule.*",
)
async def mirror_of_a_part(rig: Rig) -> None:
    await _mirrored(rig, 60, 8, 45)


@CASES(
    routed(f"{{mirror: {{host: web, subset: v1}}, mirrorPercent: 40, {SHOP}}}", V1),
    HOST,
    r".*mirror\..*",
    r"DestinationRule.*",
)
async def mirror_of_whole_percents(rig: Rig) -> None:
    await _mirrored(rig, 60, 8, 45)


@CASES(
    routed(
        "{mirrors: [{destination: {host: web, subset: v1, port: {number: $http3}}, percentage: {value: 40}}],"
        f" {SHOP}}}",
        V1,
    ),
    HOST,
    r"DestinationRule.*",
)
async def mirrors_of_a_part(rig: Rig) -> None:
    await _mirrored(rig, 60, 8, 45, port=18_081)


@CASES(
    routed(
        "{mirrors: [{destination: {host: web, subset: v1}}, {destination: {host: far.other.svc.cluster.local}}],"
        f" {SHOP}}}",
        V1,
    ),
    r".*",
)
async def each_mirror_has_its_copy(rig: Rig) -> None:
    assert await rig.names(4) == ["shop-1"] * 4
    await until(lambda: len(rig.servers.seen) >= 12, "copies of all requests", 3)
    assert Counter(one.name for one in rig.servers.seen) == {"shop-1": 4, "web-1": 4, "far-1": 4}

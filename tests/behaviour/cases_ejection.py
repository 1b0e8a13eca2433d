"""DestinationRule: endpoints that answer badly are left out for a time."""

from __future__ import annotations

from collections import Counter

from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import ENTRY, policy, soon
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Answer, Seen
from tests.waiting import until

CASES = Cases()


async def _ejected(rig: Rig, asked: int, answer: Answer, bad: str = "web-1") -> Counter[str]:
    """Who answers after one endpoint has answered badly for a while."""

    def broken(seen: Seen) -> Answer:
        return answer if seen.name == bad else Answer(body=seen.name)

    rig.servers.answer = broken
    rig.servers.seen.clear()
    await rig.names(asked)
    return await _asked(rig)


async def _asked(rig: Rig, count: int = 18) -> Counter[str]:
    """Which servers so many requests come to."""
    rig.servers.seen.clear()
    await rig.names(count)
    return Counter(one.name for one in rig.servers.seen)


EJECT = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {%s, baseEjectionTime: 100s, interval: 100s}"
NOTHING_ELSE = r".*(loadBalancer.*|baseEjectionTime|interval|host)"


@CASES(policy(EJECT % "consecutive5xxErrors: 2, maxEjectionPercent: 40"), NOTHING_ELSE)
async def ejection_by_errors(rig: Rig) -> None:
    failed: list[str] = []

    def broken(seen: Seen) -> Answer:
        failed.extend(["x"] if seen.name == "web-1" else [])
        return Answer(status=500 if seen.name == "web-1" else 200, body=seen.name)

    rig.servers.answer = broken

    async def gone() -> bool:
        return "web-1" not in await _asked(rig, 6)

    await soon(gone)
    assert len(failed) <= 4


@CASES(
    policy(EJECT % "consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, maxEjectionPercent: 40"),
    NOTHING_ELSE,
    r".*maxEjectionPercent",
)
async def ejection_by_gateway_errors(rig: Rig) -> None:
    assert (await _ejected(rig, 15, Answer(status=500)))["web-1"] == 6

    async def gone() -> bool:
        return "web-1" not in await _ejected(rig, 15, Answer(status=502))

    await soon(gone)


@CASES(
    policy(EJECT % "consecutive5xxErrors: 2, maxEjectionPercent: 40, outlierDetectionHttpErrorCodes: [404, 429]"),
    NOTHING_ELSE,
    r".*(maxEjectionPercent|consecutive5xxErrors)",
)
async def ejection_by_the_codes_that_are_named(rig: Rig) -> None:
    """Nothing else is an error then."""
    assert (await _ejected(rig, 15, Answer(status=500)))["web-1"] == 6

    async def gone() -> bool:
        return "web-1" not in await _ejected(rig, 6, Answer(status=429))

    await soon(gone)


@CASES(
    policy(
        EJECT % "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, consecutive5xxErrors: 0,"
        " consecutiveGatewayErrors: 0, maxEjectionPercent: 60",
        "half.example",
        """
---
kind: ServiceEntry
spec:
  hosts: [half.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: $ip1}, {address: $ip9}]
---
kind: VirtualService
spec: {hosts: [half.example], http: [{retries: {attempts: 0}, route: [{destination: {host: half.example}}]}]}
""",
    ),
    NOTHING_ELSE,
    ENTRY,
    r"VirtualService.*",
    r".*(maxEjectionPercent|consecutive5xxErrors|consecutiveGatewayErrors)",
)
async def ejection_by_broken_connections(rig: Rig) -> None:
    """Nobody listens at the second endpoint."""

    failed: list[int] = []

    async def gone() -> bool:
        found = [(await rig.ask(host="half.example")).status for _ in range(4)]
        failed.extend(status for status in found if status == 503)
        return 503 not in found

    await soon(gone)
    assert 1 <= len(failed) <= 4


@CASES(
    policy(
        "loadBalancer: {simple: ROUND_ROBIN},"
        " outlierDetection: {consecutive5xxErrors: 1, interval: 0.2s, baseEjectionTime: 0.3s,"
        " maxEjectionPercent: 40}"
    ),
    r".*(loadBalancer.*|host|maxEjectionPercent|consecutive5xxErrors)",
)
async def ejection_ends_in_time(rig: Rig) -> None:
    async def gone() -> bool:
        return "web-1" not in await _ejected(rig, 4, Answer(status=500))

    await soon(gone)

    async def back() -> bool:
        return "web-1" in await _asked(rig, 3)

    await until(back, "the endpoint is asked again", 3)


@CASES(
    policy(EJECT % "consecutive5xxErrors: 1, maxEjectionPercent: 100, minHealthPercent: 50"),
    NOTHING_ELSE,
    r".*(consecutive5xxErrors|maxEjectionPercent)",
)
async def all_are_asked_where_too_few_are_left(rig: Rig) -> None:
    """Two of three are ejected, which leaves fewer than the half. Envoy gathers ejections for a second."""
    rig.servers.answer = lambda seen: Answer(status=200 if seen.name == "web-1" else 500, body=seen.name)
    panic = rf"cluster\.outbound\|{rig.ports['http']}\|\|web\.default.*lb_healthy_panic"
    before = await rig.stat(panic)

    async def in_panic() -> bool:
        await rig.names(3)
        return await rig.stat(panic) > before

    await until(in_panic, "the ejected are asked, too", 4)
    assert set(await _asked(rig, 6)) == {"web-1", "web-2", "web-3"}

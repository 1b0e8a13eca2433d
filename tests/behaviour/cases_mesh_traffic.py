"""MeshConfig: retries, limits, failover and detection of protocols that hold where no rule says otherwise."""

from __future__ import annotations

import time

from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import policy
from tests.behaviour.cases_mesh import mesh
from tests.behaviour.client import Ask, connected
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Answer, Seen, saying
from tests.waiting import until

CASES = Cases()
ENTRY = r"ServiceEntry.*"
RULE = r"DestinationRule.*"
SLOW = "{attempts: 4, retryOn: '418', backoff: 0.5s}"


async def _waits(rig: Rig, port: str) -> None:
    """Longer than with Envoy's own intervals, which are 0.4 s at most; those of 0.5 s take 3.75 s at a mean."""
    rig.servers.answer = saying(status=418)
    assert (await rig.ask(host="shop", port=port)).seconds > 0.45


@CASES(mesh(f"defaultHttpRetryPolicy: {SLOW}"), r".*(attempts|retryOn)")
async def retries_of_the_mesh_wait(rig: Rig) -> None:
    await _waits(rig, "http")


@CASES(mesh(f"defaultInboundHttpRetryPolicy: {SLOW}"), r".*(attempts|retryOn)")
async def retries_where_requests_come_in_wait(rig: Rig) -> None:
    await _waits(rig, "in")


@CASES(
    mesh("defaultInboundHttpRetryPolicy: {attempts: 2, perTryTimeout: 0.2s, retryOn: gateway-error}"),
    r".*(attempts|retryOn)",
)
async def tries_where_requests_come_in_have_their_own_time(rig: Rig) -> None:
    rig.servers.answer = saying(delay=1.5)
    back = await rig.ask(port="in")
    assert back.status == 504
    assert back.seconds < 1.4


@CASES(
    mesh("defaultHttpRetryPolicy: {attempts: 1, retryOn: '418', backoff: 1ms, retryIgnorePreviousHosts: false}"),
    r".*(attempts|retryOn|backoff)",
)
async def hosts_may_be_tried_again(rig: Rig) -> None:
    """One in three is; where they may not, one in 700 (five looks for another host)."""
    rig.servers.answer = saying(status=418)
    await rig.names(30)
    tries = [one.name for one in rig.servers.seen]
    assert sum(first == second for first, second in zip(tries[::2], tries[1::2], strict=True)) > 1


@CASES(mesh("defaultTrafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}"))
async def connections_of_the_mesh(rig: Rig) -> None:
    await rig.names(6, host="shop")
    assert len({one.connection for one in rig.servers.seen}) == 6


@CASES(
    mesh("defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}"),
    r".*maxEjectionPercent",
)
async def ejection_of_the_mesh(rig: Rig) -> None:
    await _ejects(rig)


@CASES(
    policy(
        "portLevelSettings: [{port: {number: $http},"
        " outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}]"
    ),
    r".*(host|number|maxEjectionPercent)",
)
async def ejection_at_one_port(rig: Rig) -> None:
    await _ejects(rig)


async def _ejects(rig: Rig) -> None:
    def answer(seen: Seen) -> Answer:
        return Answer(status=500 if seen.name == "web-1" else 200, body=seen.name)

    rig.servers.answer = answer

    async def ejected() -> bool:
        await rig.ask()
        return rig.servers.seen[-1].name == "web-1"

    await until(ejected, "web-1 answers once", 5)
    assert "web-1" not in await rig.names(12)


FAR = """
---
kind: ServiceEntry
spec:
  hosts: [spread.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: $ip1, locality: r2/z1}, {address: $ip4, locality: r3/z1}]
---
kind: DestinationRule
spec: {host: spread.example, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}
"""


@CASES(mesh("localityLbSetting: {failover: [{from: r1, to: r3}]}", FAR), ENTRY, RULE)
async def another_region_in_the_mesh(rig: Rig) -> None:
    assert set(await rig.names(12, host="spread.example")) == {"shop-1"}


SILENT = """
---
kind: ServiceEntry
spec:
  hosts: [silent.example]
  resolution: STATIC
  ports: [{number: $auto, name: any, targetPort: $lines}]
  endpoints: [{address: $ip4}]
"""


@CASES(mesh("protocolDetectionTimeout: 0.3s", SILENT), ENTRY)
async def clients_that_say_nothing_are_led_on(rig: Rig) -> None:
    started = time.monotonic()
    _, writer = await connected(Ask(port=rig.ports["auto"]))
    try:
        await until(lambda: "shop-1" in rig.servers.opened, "the server is connected", 3)
    finally:
        writer.close()
    assert time.monotonic() - started > 0.2


@CASES(
    mesh(
        "dnsRefreshRate: 0.2s",
        """
---
kind: ServiceEntry
spec:
  hosts: [named.example]
  resolution: DNS
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: localhost}]
""",
    ),
    ENTRY,
)
async def names_are_looked_up_so_often(rig: Rig) -> None:
    lookups = r"cluster\.outbound\|.*named\.example.*\.update_attempt"
    before = await rig.stat(lookups)

    async def asked_again() -> bool:
        return await rig.stat(lookups) >= before + 4

    await until(asked_again, "the name is looked up again and again", 4)


@CASES(
    mesh("defaultInboundHttpRetryPolicy: {attempts: 1, retryOn: '418', retryIgnorePreviousHosts: false}"),
    r".*(attempts|retryOn)",
)
async def an_app_may_be_tried_again(rig: Rig) -> None:
    """Not to be told by traffic: an app is one host, which Envoy takes again in any case."""
    said = await rig.envoys["server"].admin("/config_dump?resource=dynamic_listeners")
    assert "retry_policy" in said
    assert "retry_host_predicate" not in said

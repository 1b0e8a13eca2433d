"""DestinationRule: limits and times of connections, protocols towards servers, and TLS as the other end sees it."""

from __future__ import annotations

import asyncio

from tests.behaviour import crowds
from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import policy
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Handshake, saying
from tests.waiting import until

CASES = Cases()
HOST = r".*\.host"
ALONE = r"VirtualService.*"
SHOP_ONLY = """
---
kind: VirtualService
spec: {hosts: [shop], http: [{retries: {attempts: 0}, route: [{destination: {host: shop}}]}]}
"""


@CASES(
    policy("connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}", "shop", SHOP_ONLY),
    HOST,
    ALONE,
)
async def limits_by_a_crowd(rig: Rig) -> None:
    pending = rf"cluster\.outbound\|{rig.ports['http']}\|\|shop\..*upstream_rq_pending_active"
    assert await crowds.queue(rig, pending, 5, host="shop") == {200: 2, 503: 3}
    assert len({one.connection for one in rig.servers.seen}) == 1


@CASES(
    policy("connectionPool: {http: {http2MaxRequests: 2, h2UpgradePolicy: UPGRADE}}", "shop", SHOP_ONLY), HOST, ALONE
)
async def requests_over_http2_have_a_limit(rig: Rig) -> None:
    assert await crowds.crowd(rig, 5, 3, host="shop") == {200: 2, 503: 3}
    assert {one.protocol for one in rig.servers.seen} == {"2"}


@CASES(policy("connectionPool: {http: {maxRequestsPerConnection: 2}}", "shop"), HOST)
async def a_connection_serves_so_many_requests(rig: Rig) -> None:
    await rig.names(6, host="shop")
    assert len({one.connection for one in rig.servers.seen}) == 3


@CASES(policy("connectionPool: {http: {idleTimeout: 0.2s}}", "shop"), HOST)
async def idle_connections_are_closed(rig: Rig) -> None:
    await rig.ask(host="shop")
    await until(lambda: rig.servers.seen[-1].connection in rig.servers.ended, "the connection is closed", 2)


@CASES(policy("connectionPool: {tcp: {idleTimeout: 0.3s}}", "shop"), HOST)
async def idle_tcp_connections_are_closed(rig: Rig) -> None:
    assert await _lasts(rig, 2) < 1.5


@CASES(policy("connectionPool: {tcp: {maxConnectionDuration: 0.3s}}", "shop"), HOST)
async def connections_to_http_servers_last_so_long(rig: Rig) -> None:
    await rig.ask(host="shop")
    await until(lambda: rig.servers.seen[-1].connection in rig.servers.ended, "the connection is closed", 2)


async def _lasts(rig: Rig, patience: float) -> float:
    """How long a connection to shop's TCP port stays open that says a line now and then."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["tcp2"])
    writer.write(b"x\n")
    try:
        async with asyncio.timeout(patience):
            while await reader.readline():
                pass
    except TimeoutError:
        pass
    finally:
        writer.close()
    return loop.time() - started


@CASES(policy("connectionPool: {http: {useClientProtocol: true}}"), HOST)
async def the_clients_protocol_goes_on(rig: Rig) -> None:
    await rig.ask(port="http2")
    assert rig.servers.seen[-1].protocol == "1.1"


@CASES(
    policy("connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1}}", "shop", SHOP_ONLY),
    HOST,
    ALONE,
)
async def streams_of_a_connection(rig: Rig) -> None:
    assert await crowds.crowd(rig, 4, 0, host="shop") == {200: 4}
    assert [one.protocol for one in rig.servers.seen] == ["2"] * 4
    assert len({one.connection for one in rig.servers.seen}) == 4


@CASES(
    policy("connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 0.2s, timeout: 1s}}}", "shop"),
    HOST,
    r".*timeout",
    r".*h2UpgradePolicy",
)
async def http2_connections_are_pinged(rig: Rig) -> None:
    rig.servers.answer = saying(delay=0.8)
    await rig.ask(host="shop")
    assert len(rig.servers.pings) >= 2


@CASES(
    policy("connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 1s, timeout: 0.3s}}}", "shop"),
    HOST,
    r".*(interval|h2UpgradePolicy)",
)
async def connections_without_an_answer_to_pings_end(rig: Rig) -> None:
    rig.servers.deaf = True
    await rig.ask(host="shop")
    await until(lambda: rig.servers.seen[-1].connection in rig.servers.ended, "the connection is closed", 4)
    assert rig.servers.pings


@CASES(
    """
kind: ServiceEntry
spec:
  hosts: [nowhere.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: $ip8}]
---
kind: VirtualService
spec: {hosts: [nowhere.example], http: [{retries: {attempts: 0}, route: [{destination: {host: nowhere.example}}]}]}
---
kind: DestinationRule
spec: {host: nowhere.example, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0.3s}}}}
""",
    r"ServiceEntry.*",
    HOST,
    ALONE,
)
async def connecting_takes_so_long_at_most(rig: Rig) -> None:
    back = await rig.ask(host="nowhere.example")
    assert back.status == 503
    assert back.seconds < 1.5


@CASES(
    policy(
        "connectionPool: {http: {maxRetries: 1}}",
        "shop",
        """
---
kind: VirtualService
spec:
  hosts: [shop]
  http: [{retries: {attempts: 1, retryOn: '418', backoff: 1ms}, route: [{destination: {host: shop}}]}]
""",
    ),
    HOST,
    ALONE,
)
async def retries_at_once_have_a_limit(rig: Rig) -> None:
    assert await crowds.tries(rig, 5, 418, host="shop") == 6


@CASES(
    policy(
        "retryBudget: {percent: 25, minRetryConcurrency: 2}",
        "shop",
        """
---
kind: VirtualService
spec:
  hosts: [shop]
  http: [{retries: {attempts: 1, retryOn: '418', backoff: 1ms}, route: [{destination: {host: shop}}]}]
""",
    ),
    HOST,
    ALONE,
    r".*percent",
)
async def retries_have_a_budget(rig: Rig) -> None:
    assert await crowds.tries(rig, 6, 418, host="shop") == 8


@CASES(
    policy(
        "retryBudget: {percent: 50, minRetryConcurrency: 1}",
        "shop",
        """
---
kind: VirtualService
spec:
  hosts: [shop]
  http: [{retries: {attempts: 1, retryOn: '418', backoff: 1ms}, route: [{destination: {host: shop}}]}]
""",
    ),
    HOST,
    ALONE,
    r".*minRetryConcurrency",
)
async def retries_have_a_budget_of_percents(rig: Rig) -> None:
    assert 15 <= await crowds.tries(rig, 12, 418, host="shop") <= 18


@CASES(
    policy(
        "retryBudget: {percent: 20, minRetryConcurrency: 1, budgetInterval: 60s}",
        "shop",
        """
---
kind: VirtualService
spec:
  hosts: [shop]
  http: [{retries: {attempts: 1, retryOn: '418', backoff: 1ms}, route: [{destination: {host: shop}}]}]
""",
    ),
    HOST,
    ALONE,
    r".*(minRetryConcurrency|percent)",
)
async def a_budget_of_retries_counts_what_was_before(rig: Rig) -> None:
    """Of 20 requests that are over and four that go on 20 % are four; of the latter alone it were one."""
    await rig.names(20, host="shop")
    assert await crowds.tries(rig, 4, 418, host="shop") == 8


@CASES(policy("proxyProtocol: {version: V1}", "shop"), HOST)
async def proxy_protocol_tells_the_client(rig: Rig) -> None:
    await rig.line("tcp2", source="127.4.0.4")
    await until(lambda: bool(rig.servers.greetings), "the first line", 2)
    assert rig.servers.greetings[0][1].startswith(b"PROXY TCP4 127.4.0.4 127.0.0.1 ")


@CASES(policy("proxyProtocol: {version: V2}", "shop"), HOST)
async def proxy_protocol_tells_the_client_in_binary(rig: Rig) -> None:
    """Its signature begins with empty lines."""
    await rig.line("tcp2", source="127.4.0.4")
    await until(lambda: bool(rig.servers.greetings), "the first line", 2)
    assert rig.servers.greetings[0][1] == b"\r\n"


@CASES(
    """
kind: DestinationRule
spec:
  host: shop
  trafficPolicy:
    portLevelSettings: [{port: {number: $http}, connectionPool: {http: {maxRequestsPerConnection: 1}}}]
""",
    HOST,
    r".*port\.number",
)
async def connections_of_one_port(rig: Rig) -> None:
    await rig.names(6, host="shop")
    assert len({one.connection for one in rig.servers.seen}) == 6


# --- TLS

OUTSIDE = """
---
kind: ServiceEntry
spec:
  hosts: [external.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $tlsapp}]
  endpoints: [{address: $ip4}]
"""
ENTRY = r"ServiceEntry.*"


def tls(text: str) -> str:
    """A rule that adds TLS towards a host outside."""
    return policy(f"tls: {{{text}}}", "external.example", OUTSIDE)


async def _handshake(rig: Rig) -> Handshake | None:
    """What the server outside saw; None where no request came."""
    await rig.ask(host="external.example")
    return rig.servers.seen[-1].tls if rig.servers.seen else None


@CASES(tls("mode: SIMPLE, caCertificates: $certs/roots.pem, sni: name.example"), HOST, ENTRY)
async def simple_tls_by_the_handshake(rig: Rig) -> None:
    seen = await _handshake(rig)
    assert seen is not None
    assert (seen.sni, seen.peer) == ("name.example", ())


@CASES(tls("mode: SIMPLE, insecureSkipVerify: true, sni: name.example"), HOST, ENTRY, r".*sni")
async def unverified_tls(rig: Rig) -> None:
    assert await _handshake(rig) is not None


@CASES(tls("mode: SIMPLE, sni: external.example"), HOST, ENTRY, r".*sni")
async def the_systems_roots_are_trusted_where_none_are_named(rig: Rig) -> None:
    """They do not know the rig's authority."""
    before = await rig.stat(r".*external\.example.*ssl\.fail_verify_error")
    assert await _handshake(rig) is None
    assert await rig.stat(r".*external\.example.*ssl\.fail_verify_error") > before


@CASES(
    tls("mode: SIMPLE, caCertificates: $certs/strangers.pem, sni: external.example"),
    HOST,
    ENTRY,
    r".*(sni|caCertificates|mode)",
)
async def strangers_are_not_trusted(rig: Rig) -> None:
    assert await _handshake(rig) is None


@CASES(
    tls("mode: SIMPLE, caCertificates: $certs/roots.pem, sni: a, subjectAltNames: [other.example]"),
    HOST,
    ENTRY,
    r".*(sni|caCertificates|mode)",
)
async def names_in_the_certificate_are_checked(rig: Rig) -> None:
    assert await _handshake(rig) is None


@CASES(
    tls("mode: SIMPLE, caCertificates: $certs/roots.pem, sni: a, caCrl: $certs/some.crl"),
    HOST,
    ENTRY,
    r".*(sni|caCertificates|mode)",
)
async def revoked_certificates_are_refused(rig: Rig) -> None:
    assert await _handshake(rig) is None


@CASES(
    tls(
        "mode: MUTUAL, caCertificates: $certs/roots.pem, clientCertificate: $certs/client.example.pem,"
        " privateKey: $certs/client.example.key"
    ),
    HOST,
    ENTRY,
)
async def mutual_tls_by_the_clients_certificate(rig: Rig) -> None:
    seen = await _handshake(rig)
    assert seen is not None
    assert "client.example" in seen.peer


@CASES(policy("tls: {mode: ISTIO_MUTUAL}", "mesh"), r".*")
async def the_meshs_own_tls(rig: Rig) -> None:
    assert (await rig.ask(port="mtls", host="mesh")).body == "mesh-1"
    seen = rig.servers.seen[-1].tls
    assert seen is not None
    assert seen.peer == ("spiffe://cluster.local/ns/default/sa/client",)


@CASES(policy("tls: {mode: DISABLE}", "mesh"), HOST)
async def no_tls_where_the_rule_says_so(rig: Rig) -> None:
    await rig.ask(port="mtls", host="mesh")
    assert rig.servers.seen == []


@CASES(
    """
kind: DestinationRule
spec:
  host: external.example
  trafficPolicy:
    portLevelSettings: [{port: {number: $http}, tls: {mode: SIMPLE, insecureSkipVerify: true}}]
"""
    + OUTSIDE,
    HOST,
    ENTRY,
)
async def tls_of_one_port(rig: Rig) -> None:
    assert await _handshake(rig) is not None

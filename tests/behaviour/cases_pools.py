"""Sidecar: limits and HTTP/2 of the connections from a sidecar to its app, where the whole Sidecar says so."""

from __future__ import annotations

from tests.behaviour import crowds
from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig
from tests.behaviour.servers import saying
from tests.waiting import until

CASES = Cases()
RETRIES = """
---
kind: MeshConfig
spec: {defaultInboundHttpRetryPolicy: {attempts: 1, retryOn: '418', backoff: 1ms}}
"""


def pool(text: str, protocol: str = "HTTP", more: str = "") -> str:
    """The other sidecar's Sidecar with this pool for all that comes in."""
    return f"""
kind: Sidecar
metadata: {{name: server}}
spec:
  workloadSelector: {{labels: {{app: server}}}}
  ingress:
  - port: {{number: $in, protocol: {protocol}, name: http}}
    bind: 127.0.0.1
    defaultEndpoint: "127.0.0.1:$local"
  egress: [{{hosts: ["~/*"]}}]
  inboundConnectionPool: {{{text}}}
{more}"""


BESIDE = (r".*(workloadSelector|ingress|egress).*", r"MeshConfig.*")


@CASES(pool("http: {http2MaxRequests: 2}", "HTTP2"), *BESIDE)
async def requests_to_the_app_over_http2_have_a_limit(rig: Rig) -> None:
    assert await crowds.crowd(rig, 5, 3, port="in") == {200: 2, 503: 3}


@CASES(pool("http: {maxConcurrentStreams: 1}", "HTTP2"), *BESIDE)
async def streams_of_a_connection_to_the_app(rig: Rig) -> None:
    assert await crowds.crowd(rig, 4, 0, port="in") == {200: 4}
    assert len({one.connection for one in rig.servers.seen}) == 4


@CASES(pool("http: {http2KeepAlive: {interval: 0.2s, timeout: 1s}}", "HTTP2"), *BESIDE, r".*timeout")
async def connections_to_the_app_are_pinged(rig: Rig) -> None:
    rig.servers.answer = saying(delay=0.8)
    await rig.ask(port="in")
    assert len(rig.servers.pings) >= 2


@CASES(pool("http: {useClientProtocol: true}", "HTTP2"), *BESIDE)
async def the_clients_protocol_reaches_the_app(rig: Rig) -> None:
    await rig.ask(port="in")
    assert rig.servers.seen[-1].protocol == "1.1"


@CASES(pool("http: {maxRetries: 1}", more=RETRIES), *BESIDE)
async def retries_at_the_app_have_a_limit(rig: Rig) -> None:
    assert await crowds.tries(rig, 5, 418, port="in") == 6


@CASES(pool("http: {http2KeepAlive: {interval: 1s, timeout: 0.3s}}", "HTTP2"), *BESIDE, r".*interval")
async def connections_to_an_app_that_answers_no_pings_end(rig: Rig) -> None:
    rig.servers.deaf = True
    await rig.ask(port="in")
    await until(lambda: rig.servers.seen[-1].connection in rig.servers.ended, "the connection is closed", 4)
    assert rig.servers.pings


@CASES(pool("tcp: {connectTimeout: 0.3s}").replace("$local", "$full"), *BESIDE)
async def connecting_to_the_app_takes_so_long_at_most(rig: Rig) -> None:
    back = await rig.ask(port="in")
    assert back.status == 503
    assert back.seconds < 3

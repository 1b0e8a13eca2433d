"""Sidecar: limits and TLS of requests that come in."""

from __future__ import annotations

import ssl

from tests.behaviour import crowds
from tests.behaviour.case import Cases
from tests.behaviour.cases_sidecar import PORT, THE_SERVER, mutual, server
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig
from tests.waiting import until

CASES = Cases()
BESIDE = (*THE_SERVER, PORT, r".*(bind|defaultEndpoint)")


@CASES(
    server(more=", connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"),
    *BESIDE,
)
async def a_crowd_that_comes_in(rig: Rig) -> None:
    pending = r"cluster\.inbound\|.*upstream_rq_pending_active"
    assert await crowds.queue(rig, pending, 5, "server", port="in") == {200: 2, 503: 3}


async def _closed(rig: Rig) -> None:
    await rig.ask(port="in")
    await until(lambda: rig.servers.seen[-1].connection in rig.servers.ended, "the connection is closed", 2)


@CASES(server(more=", connectionPool: {http: {idleTimeout: 0.2s}}"), *BESIDE)
async def idle_connections_to_the_app_are_closed(rig: Rig) -> None:
    await _closed(rig)


@CASES(server(more=", connectionPool: {tcp: {maxConnectionDuration: 0.3s}}"), *BESIDE)
async def connections_to_the_app_last_so_long(rig: Rig) -> None:
    await _closed(rig)


FILES = "serverCertificate: $certs/a.example.pem, privateKey: $certs/a.example.key"
MUTUAL = f"mode: MUTUAL, {FILES}, caCertificates: $certs/roots.pem"
DISABLED = """
---
kind: PeerAuthentication
spec: {selector: {matchLabels: {app: server}}, mtls: {mode: DISABLE}}
"""
ALWAYS = r".*tls\.(mode|serverCertificate|privateKey|caCertificates)"
POLICY = r"PeerAuthentication.*"


async def _ask(rig: Rig, certificate: str = "", latest: int = 0, ciphers: str = "") -> Reply:
    own = (rig.path(f"{certificate}.pem"), rig.path(f"{certificate}.key")) if certificate else ("", "")
    context = trusting(rig.path("roots.pem"), *own)
    if latest:
        context.maximum_version = latest
    if ciphers:
        context.set_ciphers(ciphers)
    return await rig.ask(port="in", host="a.example", tls=context)


def tls(text: str) -> str:
    """TLS that the other sidecar ends for its app."""
    return server(more=f", tls: {{{text}}}").replace("protocol: HTTP,", "protocol: HTTPS,") + DISABLED


@CASES(tls(f"mode: SIMPLE, {FILES}"), *BESIDE, POLICY)
async def tls_ends_at_the_sidecar(rig: Rig) -> None:
    back = await _ask(rig)
    assert (back.body, back.certificate) == ("local", ("a.example",))


CLIENTS = {
    "a_certificate": ("", ""),
    "a_certificate_in_force": (", caCrl: $certs/some.crl", "revoked.example"),
    "a_key": (", verifyCertificateSpki: [$spki]", "b.example"),
    "a_fingerprint": (", verifyCertificateHash: [$hash]", "b.example"),
}


def _clients(name: str, text: str, refused: str) -> None:
    async def check(rig: Rig) -> None:
        assert (await _ask(rig, "client.example")).body == "local"
        assert (await _ask(rig, refused)).status == 0

    check.__name__ = f"clients_of_the_sidecar_have_{name}"
    CASES(tls(MUTUAL + text), *BESIDE, POLICY, *((ALWAYS,) if text else ()))(check)


for _name, _both in CLIENTS.items():
    _clients(_name, *_both)


@CASES(tls(f"mode: SIMPLE, {FILES}, minProtocolVersion: TLSV1_3"), *BESIDE, POLICY, ALWAYS)
async def the_oldest_tls_of_a_sidecar(rig: Rig) -> None:
    assert (await _ask(rig)).version == "TLSv1.3"
    assert (await _ask(rig, latest=ssl.TLSVersion.TLSv1_2)).status == 0


@CASES(
    tls(f"mode: SIMPLE, {FILES}, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]"),
    *BESIDE,
    POLICY,
    ALWAYS,
)
async def the_newest_tls_of_a_sidecar_and_its_ciphers(rig: Rig) -> None:
    back = await _ask(rig)
    assert (back.version, back.cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert (await _ask(rig, latest=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")).status == 0


LIMIT = """
---
kind: LocalRateLimit
spec:
  selector: {matchLabels: {app: server}}
  rules: [{match: {paths: [/limited]}, limit: {requests: 2, per: 1h}, status: 503}]
"""


@CASES(server() + LIMIT, r"Sidecar.*")
async def requests_to_the_app_have_a_limit(rig: Rig) -> None:
    """Where mTLS is permissive, plaintext and mTLS have a bucket each."""
    assert [(await rig.ask("/limited", port="in")).status for _ in range(4)] == [200, 200, 503, 503]
    assert [(await mutual(rig, "/limited")).status for _ in range(4)] == [200, 200, 503, 503]
    assert (await rig.ask("/other", port="in")).body == "local"
    assert len(rig.servers.seen) == 5

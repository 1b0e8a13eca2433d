"""A whole istiod whose clock is two hours late: pods get certificates that work, and say that a clock is wrong (FT33).

The API server judges tokens by its own clock. Its certificate here was made a minute ago, which such an istiod would
not believe, so that it is asked in plaintext through the proxy of other faults.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from agent import metrics
from agent.sds import identity, rotation, secrets
from istiod.kube.client import KubernetesClient
from tests import figures
from tests.kube.faults import FaultProxy
from tests.kube.following import becomes
from tests.kube.test_callers import Accounts, Callers, root_of
from tests.kube.test_discovery import discovery, free_port
from tests.waiting import until
from wire.spiffe import Identity

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
LIBRARIES = sorted(Path("/usr/lib").glob("*/datefudge/datefudge.so"))
LATE = dt.timedelta(hours=2)


def context(side: int, held: identity.Certificate, roots: str) -> ssl.SSLContext:
    """What one workload verifies another one with, by the right clock."""
    made = ssl.SSLContext(side)
    made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=roots)
    with tempfile.NamedTemporaryFile() as file:
        file.write(held.key + held.chain)
        file.flush()
        made.load_cert_chain(file.name)
    return made


async def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether a byte comes through a connection of these two, each of which verifies the other."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server) as served:
        reader, writer = await asyncio.open_connection(*served.sockets[0].getsockname(), ssl=client)
        writer.write(b"x")
        found = await asyncio.wait_for(reader.read(1), 20)
        writer.close()
    return found == b"x"


@pytest.fixture
async def late(
    proxy: FaultProxy, client: KubernetesClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Callers, identity.CaClient]]:
    """A ready istiod with such a clock, and a pod's client of its CA."""
    assert LIBRARIES, "datefudge is not installed (make test-packages)"
    monkeypatch.setenv("LD_PRELOAD", str(LIBRARIES[0]))
    monkeypatch.setenv("DATEFUDGE", str(int(LATE.total_seconds())))
    secure, token, roots = f"127.0.0.1:{free_port()}", tmp_path / "token", tmp_path / "roots"
    async with discovery(proxy.kubeconfig, namespace, tmp_path / "log", secure=secure) as istiod:
        monkeypatch.undo()
        await becomes(istiod.ready, lambda said: said[0] == 200, 60)
        roots.write_text((await root_of(client, namespace))["data"]["root-cert.pem"])
        accounts = Accounts(client, namespace)
        token.write_text(await accounts.token(await accounts.make("app")))
        name = f"istiod.{namespace}.svc"
        ca = identity.CaClient(address=secure, server_name=name, token=token, roots=identity.Roots(roots))
        async with ca.channel() as (channel, _):
            yield Callers(channel=channel, istiod=istiod), ca


async def test_an_istiod_that_is_two_hours_late_signs_what_works_and_agents_say_so(
    late: tuple[Callers, identity.CaClient], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    (callers, ca), counted = late, metrics.Metrics("1")
    root = ca.roots.path.read_text()
    (begins,) = (each.not_valid_before_utc for each in x509.load_pem_x509_certificates(root.encode()))
    assert dt.datetime.now(dt.UTC) - begins > LATE, "its clock is late"
    caplog.set_level(logging.INFO, "identity")
    who = Identity("cluster.local", namespace, "app")
    task = asyncio.create_task(rotation.Rotation(ca, who, secrets.Secrets(), counted).run())
    try:
        await until(lambda: "certificate until" in caplog.text, "a certificate")
    finally:
        task.cancel()
        await asyncio.wait((task,))
    assert re.search(r"ALARM: the CA's clock and ours differ by -7[12]\d\d s", caplog.text)
    assert re.search(r"^istio_agent_ca_clock_offset_seconds -7[12]\d\d", counted.text(), re.MULTILINE)
    held = await identity.obtain(ca.sign, who)
    assert dt.timedelta(hours=21) < held.expires - dt.datetime.now(dt.UTC) < dt.timedelta(hours=22)
    server, client = (context(side, held, root) for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    assert await shaken(server, client)
    await callers.stream(ca.token.read_text(), "app", namespace)
    figures.fault("FT33", "an istiod 2 h late: its certificates work, the alarm says so")

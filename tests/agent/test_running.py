"""The real program with the real Envoy, on loopback: identity, configuration, probes, metrics, crash, drain."""

import asyncio
import json
import os
import signal
import stat
from pathlib import Path

import pytest

from agent import app, settings
from tests.agent import pod as support
from tests.waiting import until

pytestmark = pytest.mark.envoy


async def test_envoy_gets_its_identity_then_configuration_then_counts_as_ready(tmp_path: Path) -> None:
    async with support.istiod() as control, support.pod(tmp_path, control) as pod:
        await until(lambda: bool(control.nodes), "it has its identity, and says who it is")
        assert control.peers == ["spiffe://cluster.local/ns/default/sa/sleep"]
        node = control.nodes[0]
        assert node.id == "sidecar~127.0.0.1~sleep-1.default~default.svc.cluster.local"
        assert node.cluster == "sleep.default"
        assert dict(node.metadata["LABELS"].items()) == {"app": "sleep", "version": "v1"}

        early = await pod.get(pod.status, "/healthz/ready")
        assert (early.status, early.body) == (503, b"no configuration from istiod yet (CDS 0, LDS 0 accepted)\n")
        assert await pod.status_code(pod.readiness, "/healthz/ready") != 200

        control.serve.set()

        await until(pod.ready, "the proxy is ready")
        assert (await pod.get(control.listener_port, "/")).body == b"hello"
        certificates = json.loads((await pod.get(pod.admin, "/certs")).body)["certificates"]
        assert certificates[0]["cert_chain"][0]["subject_alt_names"] == [
            {"uri": "spiffe://cluster.local/ns/default/sa/sleep"}
        ]
        scrape = (await pod.get(pod.prometheus, "/stats/prometheus")).body
        assert b"envoy_server_live" in scrape
        assert b'envoy_cluster_upstream_cx_total{cluster_name="xds-grpc"}' in scrape
        merged = (await pod.get(pod.status, "/stats/prometheus")).body
        assert b"envoy_server_live" in merged
        assert (tmp_path / "var/run/secrets/workload-spiffe-uds/socket").stat().st_mode & 0o777 == 0o660
        assert await asyncio.to_thread(with_keys, tmp_path) == [], "keys stay in memory"


def with_keys(folder: Path) -> list[Path]:
    """Files with a private key in them (SEC29)."""
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert written
    return [path for path in written if b"PRIVATE KEY" in path.read_bytes()]


async def test_a_crashed_envoy_comes_back_and_is_unready_meanwhile(tmp_path: Path) -> None:
    async with support.istiod() as control, support.pod(tmp_path, control) as pod:
        control.serve.set()

        await until(pod.ready, "the proxy is ready")
        killed = pod.envoy_pid()
        os.kill(killed, signal.SIGKILL)

        async def replaced() -> bool:
            return pod.envoy_pid() not in (0, killed)

        await until(replaced, "another Envoy runs")
        await until(pod.ready, "the proxy is ready")
        assert "Envoy ended with signal 9" in pod.log()
        assert (await pod.get(control.listener_port, "/")).body == b"hello"


async def test_sigterm_drains_before_it_ends(tmp_path: Path) -> None:
    async with support.istiod() as control, support.pod(tmp_path, control) as pod:
        control.serve.set()

        await until(pod.ready, "the proxy is ready")
        pod.process.send_signal(signal.SIGTERM)

        async def terminating() -> bool:
            return await pod.status_code(pod.status, "/healthz/ready") == 503

        await until(terminating, "it says that it terminates", 5)
        reader, writer = await asyncio.open_connection("127.0.0.1", control.listener_port)

        async def drained_answer() -> bool:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(5)
            assert b"200 ok" in head
            return b"connection: close" in head

        await until(drained_answer, "connections are closed", 5)
        writer.close()
        assert await asyncio.wait_for(pod.process.wait(), 10) == 0
        assert await pod.status_code(control.listener_port, "/") == 0


async def test_quitquitquit_waits_for_connections_where_asked_to(tmp_path: Path) -> None:
    settings = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "0s"}
    async with support.istiod() as control, support.pod(tmp_path, control, kind="router", **settings) as pod:
        control.serve.set()

        await until(pod.ready, "the proxy is ready")
        _, writer = await asyncio.open_connection("127.0.0.1", control.listener_port)

        async def counted() -> bool:
            stats = await pod.get(pod.admin, "/stats?filter=listener.127.*downstream_cx_active$")
            return b": 1" in stats.body

        await until(counted, "the connection is counted")
        assert (await pod.get(pod.status, "/drain", "POST")).status == 200
        assert (await pod.get(pod.status, "/quitquitquit", "POST")).status == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pod.process.wait(), 2.5)
        writer.close()
        assert await asyncio.wait_for(pod.process.wait(), 15) == 0


async def test_it_ends_with_envoy_and_leaves_no_port_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with support.istiod() as control:
        ports = support.Ports()
        environment = support.prepare(tmp_path, control, ports)
        options = settings.gather(settings.Flags(domain="default.svc.cluster.local"), environment)
        for end in ("agent", "envoy", "task"):
            running = asyncio.create_task(app.Agent(options).run())
            control.serve.set()
            await until(ports.ready, "the proxy is ready")
            if end == "agent":
                await ports.get(ports.status, "/quitquitquit", "POST")
            elif end == "envoy":
                await ports.get(ports.admin, "/quitquitquit", "POST")
            else:
                running.cancel()
            await asyncio.wait((running,), timeout=15)
            assert running.cancelled() if end == "task" else running.result() == 0
            assert await ports.status_code(ports.status, "/healthz/ready") == 0
            assert await ports.status_code(ports.admin, "/ready") == 0


async def test_connections_are_waited_for_within_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_POLL_SECONDS", 0.1)
    async with support.istiod() as control:
        ports = support.Ports()
        environment = support.prepare(tmp_path, control, ports) | {
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true",
            "MINIMUM_DRAIN_DURATION": "0s",
        }
        running = asyncio.create_task(app.Agent(settings.gather(settings.Flags(), environment)).run())
        control.serve.set()
        await until(ports.ready, "the proxy is ready")
        _, writer = await asyncio.open_connection("127.0.0.1", control.listener_port)
        assert (await ports.get(ports.status, "/drain", "POST")).status == 200
        os.kill(os.getpid(), signal.SIGTERM)

        async def terminating() -> bool:
            return await ports.status_code(ports.status, "/healthz/ready") == 503

        await until(terminating, "it says that it terminates")
        assert not running.done()
        writer.close()
        assert await asyncio.wait_for(running, 15) == 0


@pytest.mark.root
async def test_as_the_proxys_user_it_logs_to_a_stdout_that_it_may_not_open(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):  # the third is there for one of several workers
        folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    for folder in ("etc/istio/proxy", "var/run/secrets/workload-spiffe-uds"):
        (tmp_path / folder).mkdir(parents=True)
        os.chown(tmp_path / folder, 1337, 1337)
    user = ("setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    async with support.istiod() as control, support.pod(tmp_path, control, *user) as pod:
        control.serve.set()
        (tmp_path / "stdout").chmod(0o600)
        await until(pod.ready, "the proxy is ready")
        assert (tmp_path / "stdout").stat().st_uid == 0
        assert (await pod.get(control.listener_port, "/logged")).body == b"hello"

        async def logged() -> bool:
            return "/logged 200" in (tmp_path / "stdout").read_text()

        await until(logged, "the request is logged", 10)
        assert "Uid:\t1337" in pod.envoy_status()

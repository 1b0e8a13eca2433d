"""The real program with the real Envoy, where certificates are others': mounted files, or another SDS (row C7)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.sds import files, identity, secrets, server
from tests.agent import pod as support
from tests.waiting import until
from wire import names
from wire.spiffe import Identity

pytestmark = pytest.mark.envoy
SPIRE = Identity("cluster.local", "default", "sleep")


async def obtained(control: support.Istiod) -> identity.Certificate:
    """A certificate that the pod's agent has not asked for."""

    async def sign(csr: str) -> Sequence[str]:
        return control.ca.sign(csr, SPIRE, dt.timedelta(hours=1), support.now())

    return await identity.obtain(sign, SPIRE)


async def test_mounted_files_are_the_proxys_identity(tmp_path: Path) -> None:
    async with support.istiod() as control:
        given = await obtained(control)
        files.Output(tmp_path / "etc/certs").write(given.key, given.chain, given.roots)
        async with support.pod(tmp_path, control, FILE_MOUNTED_CERTS="true", CA_ADDR="127.0.0.1:1") as pod:
            control.serve.set()
            await until(pod.ready, "the proxy is ready")
            assert control.peers == [str(SPIRE)]
            assert "mounted certificate until" in pod.log()
            assert "no effect" not in pod.log()


async def test_an_sds_that_is_served_already_is_the_proxys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with support.istiod() as control:
        given, theirs = await obtained(control), secrets.Secrets()
        theirs.publish(
            secrets.certificate(names.RESOURCE_WORKLOAD, given.chain, given.key),
            secrets.roots(names.RESOURCE_ROOT, given.roots),
        )
        spire = server.SdsServer(theirs, names.SDS_SOCKET)
        await spire.start()
        try:
            async with support.pod(tmp_path, control, CA_ADDR="127.0.0.1:1") as pod:
                control.serve.set()
                await until(pod.ready, "the proxy is ready")
                assert control.peers == [str(SPIRE)]
                assert "secrets come from the SDS that is served at" in pod.log()
        finally:
            await spire.stop()


async def test_an_sds_that_has_to_be_there_and_is_not_is_said(tmp_path: Path) -> None:
    async with support.istiod() as control, support.pod(tmp_path, control, USE_EXTERNAL_WORKLOAD_SDS="true") as pod:
        assert await pod.process.wait() == 1
        assert "nobody serves SDS at" in pod.log()

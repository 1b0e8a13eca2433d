"""What the client does with credentials that are refused or unreadable; all else of it is held to a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import kopf
import pytest
import yaml

from istiod.config.kubernetes import ApiError, Resource
from istiod.kube import client as module
from istiod.kube import credentials
from istiod.kube.client import KubernetesClient
from istiod.kube.token_review import TokenReviewVerifier
from tests.kube.refusing import serving


async def test_a_client_can_be_closed_while_its_credentials_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    async with serving(path) as server, asyncio.timeout(10):
        client = KubernetesClient(lambda: credentials.login(str(path)))
        server.refusals = float("inf")
        with pytest.raises(ApiError):
            await client.request("get", "/api", deadline=0.5)
        path.unlink()  # so that there is no other login
        await client.close()


async def test_what_is_no_list_of_objects_is_an_error_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    async with serving(path), asyncio.timeout(10):
        client = KubernetesClient(lambda: credentials.login(str(path)))
        services = Resource(group="", version="v1", plural="services", kind="Service")
        with pytest.raises(ApiError, match=r"GET /api/v1/services: what came is no list of objects"):
            [head async for head in client.heads(services)]
        await client.close()


async def test_credentials_that_held_are_read_again_at_once_when_they_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a while a token expires: no refusal hours later is one in a row."""
    monkeypatch.setattr(module, "_RELOGIN", (0.0, 30.0))
    monkeypatch.setattr(module, "_ACCEPTED", 0.2)
    path = tmp_path / "kubeconfig"
    async with serving(path) as server, asyncio.timeout(10):
        client = KubernetesClient(lambda: credentials.login(str(path)))
        for _ in range(3):
            server.refusals = 1
            assert await client.request("get", "/api") == {}
            await asyncio.sleep(0.3)
        await client.close()


async def test_credentials_that_cannot_be_read_for_a_moment_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kubelet replaces files while they are read; a login that ended for good would leave istiod cut off."""
    monkeypatch.setattr(module, "_RELOGIN", (0.0, 0.01))
    path = tmp_path / "kubeconfig"
    failures: list[Exception] = []

    def login() -> kopf.ConnectionInfo:
        if failures:
            raise failures.pop()
        return credentials.login(str(path))

    async with serving(path) as server, asyncio.timeout(10):
        client = KubernetesClient(login)
        server.refusals = 1
        failures += [credentials.LoginError("no token"), OSError(5, "input/output error")]
        assert await client.request("get", "/api") == {}
        assert not failures
        await client.close()
    assert "input/output error" in caplog.text


async def test_what_was_said_of_a_token_is_not_believed_when_the_clock_goes_back(tmp_path: Path) -> None:
    """SEC14: else it would be believed for as long as the clock went back."""
    moment, path = 10_000.0, tmp_path / "kubeconfig"
    async with serving(path) as server, asyncio.timeout(10):
        client = KubernetesClient(lambda: credentials.login(str(path)))
        verifier = TokenReviewVerifier(client, "cluster.local", clock=lambda: moment)
        for moment, asked in ((10_000.0, 1), (10_001.0, 1), (6_400.0, 2), (6_401.0, 2)):  # noqa: B007 (the clock reads it)
            assert await verifier.verify("token") is None
            assert server.refusals == -asked
        await client.close()


def test_a_kubeconfig_whose_user_is_a_program_runs_none(tmp_path: Path) -> None:
    """SEC77: a Secret or a file that names a program must not make istiod run it."""
    ran = tmp_path / "ran"
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(ran)]}
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"exec": program}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    with pytest.raises(credentials.LoginError, match="exec is not supported"):
        credentials.login(str(path))
    assert not ran.exists()


def test_a_kubeconfig_that_is_no_yaml_is_a_failed_login(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("clusters: [")
    with pytest.raises(credentials.LoginError, match=r"--kubeconfig .*kubeconfig: no YAML: "):
        credentials.login(str(path))

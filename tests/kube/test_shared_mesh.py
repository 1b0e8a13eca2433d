"""A shared mesh configuration (SHARED_MESH_CONFIG) below the own one, as a real API server gives and changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from e2e.harness.controlplane import Cluster
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from tests.kube.following import becomes
from tests.kube.test_discovery import discovery

pytestmark = pytest.mark.apiserver


async def test_shared_settings_hold_where_the_mesh_says_nothing_and_follow_their_config_map(
    cluster: Cluster, client: KubernetesClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARED_MESH_CONFIG", "shared")
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    async def write(name: str, **mesh: Any) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"mesh": json.dumps(mesh)}}
        await client.request("post", path, body)

    await write("istio", trustDomain="own.org", defaultConfig={"concurrency": 1})
    await write("shared", trustDomain="shared.org", accessLogFile="/dev/stdout", defaultConfig={"drainDuration": "7s"})
    async with discovery(str(cluster.kubeconfig), namespace, tmp_path / "log") as istiod:
        await becomes(istiod.ready, lambda said: said[0] == 200, 60)

        async def mesh() -> Any:
            async with aiohttp.ClientSession() as http, http.get(f"http://{istiod.http}/debug/mesh") as answer:
                return await answer.json()

        proxies = {"concurrency": 1, "drainDuration": "7s"}
        assert await mesh() == {"trustDomain": "own.org", "accessLogFile": "/dev/stdout", "defaultConfig": proxies}
        changed = {"data": {"mesh": "{accessLogFile: /dev/stderr}"}}
        await client.request("patch", f"{path}/shared", changed, kind=MERGE_PATCH)
        rest = {"trustDomain": "own.org", "defaultConfig": {"concurrency": 1}}
        await becomes(mesh, lambda found: found == {**rest, "accessLogFile": "/dev/stderr"}, 10)
        await client.request("delete", f"{path}/shared")
        await becomes(mesh, lambda found: found == rest, 10)

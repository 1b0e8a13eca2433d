"""LocalRateLimit, a kind of ours, on a real API server: its definition, and what istiod says in its status (X1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crds.local_rate_limit import GROUP
from e2e.harness.controlplane import Cluster
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from tests.kube.following import becomes
from tests.kube.test_discovery import discovery

pytestmark = pytest.mark.apiserver
DEFINITION = Path(__file__).parents[2] / "crds" / f"{GROUP}_localratelimits.yaml"
GOOD = {"limit": {"requests": 5, "per": "1s"}, "responseHeaders": {"x-why": "too many"}}
BAD = {**GOOD, "responseHeaders": {"x-why": "100%"}}


async def test_its_status_says_whether_it_is_accepted_and_in_use(
    cluster: Cluster, client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    cluster.kubectl("apply", "-f", str(DEFINITION))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/localratelimits.{GROUP}", "--timeout=60s")
    collection = f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/localratelimits"
    body = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "LocalRateLimit", "metadata": {"name": "api"}}
    await client.request("post", collection, {**body, "spec": {"rules": [GOOD]}})
    path = f"{collection}/api"

    async def said() -> tuple[Any, Any, dict[str, str]]:
        found = await client.request("get", path)
        status = found.get("status", {})
        conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
        current = str(status.get("observedGeneration")) == str(found["metadata"]["generation"])
        return current, [one["type"]["code"] for one in status.get("validationMessages", ())], conditions

    async with discovery(str(cluster.kubeconfig), namespace, tmp_path / "log"):
        good = {"Accepted": "True", "InUse": "True", "Conflicts": "False", "RejectedByEnvoy": "False"}
        await becomes(said, lambda now: now[0] and not now[1] and good.items() <= now[2].items(), 60)
        await client.request("patch", path, {"spec": {"rules": [BAD]}}, kind=MERGE_PATCH)
        await becomes(said, lambda now: now[0] and now[1] == ["M0005"] and now[2]["Accepted"] == "False", 30)
        await client.request("patch", path, {"spec": {"rules": [GOOD]}}, kind=MERGE_PATCH)
        await becomes(said, lambda now: now[0] and not now[1] and good.items() <= now[2].items(), 30)
    await client.request("delete", path)

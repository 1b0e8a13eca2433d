"""What a cluster's source says of its own parts; what they do is tested on a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from crds.diagnostic import Code, Diagnostic
from istiod.cluster import Cluster
from istiod.settings import ClusterSettings, Settings
from istiod.source import View
from tests.kube.following import until
from tests.kube.refusing import serving


async def test_rights_that_are_missing_are_told(tmp_path: Path) -> None:
    path, told = tmp_path / "kubeconfig", list[tuple[Diagnostic, ...]]()
    async with serving(path, status=403) as server:
        server.refusals = float("inf")
        source = Cluster(Settings(config_dirs=(), cluster=ClusterSettings(kubeconfig=str(path))))
        view = View(ready=lambda: True, findings=tuple, version=lambda: 0, serving=lambda _: False, report=told.append)
        tasks = [asyncio.ensure_future(run()) for _, run in source.parts(view)]
        await until(lambda: told and len(told[-1]) == 5, "all that is refused is told", 10)
        assert {(each.code, each.message.partition(":")[0]) for each in told[-1]} == {
            (Code.UNWATCHED, "configmaps"),
            (Code.UNWATCHED, "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
            (Code.UNWATCHED, "validatingwebhookconfigurations.admissionregistration.k8s.io"),
            (Code.UNWRITTEN, "GET /apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader"),
            (Code.UNWRITTEN, "GET /apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader-default"),
        }
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await source.close()

"""Istio's analyzers in a cluster: what they find stands in the status of objects, beside conditions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from istiod.cluster import Cluster as Source
from istiod.config.store import ConfigStore
from istiod.features import Features
from istiod.kube.client import KubernetesClient
from istiod.settings import ClusterSettings, Settings
from istiod.source import View
from tests.kube.following import becomes
from tests.kube.test_writers import make_rule, running

pytestmark = pytest.mark.apiserver


async def test_what_the_analyzers_find_stands_in_the_status_until_it_is_mended(
    client: KubernetesClient, kubeconfig: str, namespace: str
) -> None:
    """PILOT_ENABLE_ANALYSIS, with two replicas of which one leads."""
    path = await make_rule(client, namespace)
    own = ClusterSettings(kubeconfig=kubeconfig, namespace=namespace)
    chosen, ready, store = (
        Settings(config_dirs=(), cluster=own, features=Features(analysis=True)),
        asyncio.Event(),
        (ConfigStore()),
    )
    sources = [Source(chosen) for _ in range(2)]
    view = View(ready=ready.is_set, findings=tuple, version=lambda: 0, serving=store.has, report=lambda _: None)
    seen = dict[str, Any]()

    async def status() -> dict[str, Any]:
        rule = await client.request("get", path)
        found: dict[str, Any] = rule.get("status", {})
        seen[rule["metadata"]["resourceVersion"]] = found
        return found

    def codes(found: Mapping[str, Any]) -> list[str]:
        return [one["type"]["code"] for one in found.get("validationMessages", [])]

    def settled(found: Mapping[str, Any]) -> bool:
        return {"Accepted", "Foreign"} <= {one["type"] for one in found.get("conditions", [])}

    parts = [run for source in sources for _, run in source.parts(view)]
    follow = (
        partial(each.follow, store if each is sources[0] else ConfigStore(), lambda _: None, ready.set)
        for each in sources
    )
    async with running(*follow, *parts):
        await becomes(status, lambda now: codes(now) == ["IST0101"] and settled(now), 60)
        (message,) = (await status())["validationMessages"]
        assert message == {
            "type": {"code": "IST0101", "name": "ReferencedResourceNotFound"},
            "level": "ERROR",
            "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0101/",
        }
        service = {"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
        await client.request("post", f"/api/v1/namespaces/{namespace}/services", service)
        await becomes(status, lambda now: not codes(now) and settled(now), 60)
        told = [one for _, one in sorted(seen.items(), key=lambda each: int(each[0]))]
    for source in sources:
        await source.close()
    # Conditions came at once, the message when the analyzers had run, and went once: nothing flapped
    assert len(told) <= 4
    assert [bool(codes(one)) for one in told] == [*sorted([bool(codes(one)) for one in told[:-1]]), False]

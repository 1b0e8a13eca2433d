"""The audit of the watch: events that a real API server sent and that never came are noticed and made good."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from istiod.config.kubernetes import Resource
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.watch.audit import Audit
from tests.kube.faults import FaultProxy
from tests.kube.following import Following, following, make, remove, until

pytestmark = pytest.mark.apiserver


@contextlib.asynccontextmanager
async def audited(client: KubernetesClient, root: str, grace: float) -> AsyncIterator[tuple[Following, Audit]]:
    """A followed cluster whose Services are audited without end."""
    async with following(client, root) as world:
        await until(world.ready.is_set, "all is listed")
        audit = Audit(client, world.objects, world.watch, 0.2, grace)
        services = [kind for kind in world.watch._states if kind.info.plural == "services"]
        task = asyncio.create_task(audit.run(services))
        try:
            yield world, audit
            assert not task.done(), task.result()
        finally:
            task.cancel()
            await asyncio.wait((task,))


def port_of(world: Following, namespace: str, name: str) -> Any:
    found = [item for item in world.store.snapshot() if (item.key.namespace, item.key.name) == (namespace, name)]
    return [port.port for item in found for port in getattr(getattr(item, "spec", None), "ports", ())]


async def test_objects_whose_events_were_lost_are_as_they_should_be_after_an_audit(
    client: KubernetesClient,
    proxy: FaultProxy,
    connect: Callable[[str], KubernetesClient],
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await make(client, namespace, ("old", "changed", "same"))
    async with audited(connect(proxy.kubeconfig), namespace, 1.0) as (world, audit):
        passes = world.passes("services")
        proxy.swallow = lambda line: f'"{namespace}"'.encode() in line and b'"kind":"Service"' in line
        with caplog.at_level(logging.WARNING, logger="istiod.watch.audit"):
            await make(client, namespace, ("new",))
            await remove(client, namespace, ("old",))
            path = f"/api/v1/namespaces/{namespace}/services/changed"
            patch = {"spec": {"ports": [{"name": "http", "port": 81}]}}
            await client.request("patch", path, patch, kind=MERGE_PATCH)
            await until(lambda: world.names("Service", namespace) == {"new", "changed", "same"}, "listed anew")
            await until(lambda: port_of(world, namespace, "changed") == [81], "the change too")
        assert audit.lost["Service"] >= 1
        assert world.passes("services") > passes
        assert "services: the watch lost events of" in caplog.text
        (family,) = audit.families()
        assert [(sample.labels, sample.value) for sample in family.samples] == [
            ({"type": "Service"}, audit.lost["Service"])
        ]
        proxy.swallow = lambda _: False


async def test_an_audit_finds_nothing_where_much_changes_and_nothing_is_lost(
    client: KubernetesClient, proxy: FaultProxy, connect: Callable[[str], KubernetesClient], namespace: str
) -> None:
    names = [f"s-{number}" for number in range(10)]
    async with audited(connect(proxy.kubeconfig), namespace, 2.0) as (world, audit):
        passes, rounds = world.passes("services"), audit.rounds
        while audit.rounds < rounds + 4:
            await make(client, namespace, names)
            await remove(client, namespace, names)
        assert audit.lost == {}
        assert world.passes("services") == passes


async def test_metadata_of_all_pages_and_of_what_a_selector_chooses_are_listed(
    client: KubernetesClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("istiod.kube.client.PAGE", 2)
    names = [f"s-{number}" for number in range(5)]
    await make(client, namespace, names)
    services = Resource(group="", version="v1", plural="services", kind="Service", namespace=namespace)
    heads = [head async for head in client.heads(services)]
    assert [head["metadata"]["name"] for head in heads] == names
    assert all(head["metadata"]["resourceVersion"] for head in heads)
    assert not any("spec" in head for head in heads)
    one = Resource(
        group="", version="v1", plural="services", kind="Service", namespace=namespace, fields="metadata.name=s-3"
    )
    assert [head["metadata"]["name"] async for head in client.heads(one)] == ["s-3"]

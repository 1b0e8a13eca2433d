"""Patches of the bootstrap: merged, judged by the pod's own Envoy, and never in the way of a start."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from agent import bootstrap, patches
from agent.bootstrap import patched
from agent.sds import identity
from istiod.ads.server import AdsService
from istiod.config import resource
from istiod.config.resource import Resource
from tests.ads import made
from tests.agent import pod as support
from tests.agent.test_bootstrap import made as inputs
from tests.waiting import until
from wire import names

ASKS = {names.BOOTSTRAP_XDS_AGENT: "true"}
GOOD = {
    "stats_flush_interval": "2s",
    "stats_config": {"use_all_default_tags": False, "stats_tags": [{"tag_name": "mine", "regex": "^(mine)"}]},
    "static_resources": {"clusters": [{"name": "added", "type": "STATIC", "connect_timeout": "1s"}]},
}
BAD = {"static_resources": {"clusters": [{"type": "STATIC"}]}}
"""A cluster without a name: Envoy refuses it, and protobuf does not."""
NODE = {"id": "sidecar~127.0.0.1~sleep-1.default~default.svc.cluster.local", "cluster": "sleep.default"}


def patch(said: dict[str, Any]) -> bytes:
    return json_format.ParseDict(said, bootstrap_pb2.Bootstrap()).SerializeToString()


def served(*said: dict[str, Any]) -> AdsService:
    found: list[Resource] = [resource.make(names.BOOTSTRAP_PATCHES, names.BOOTSTRAP, patch(each)) for each in said]
    return AdsService(made.Fixed(made.targets(*found)), time.monotonic)


def test_a_whole_bootstrap_is_merged_as_protobuf_merges() -> None:
    base = {**bootstrap.build(inputs()), "stats_flush_interval": "1.5s"}
    before = bootstrap_pb2.Bootstrap.FromString(patched.merged(base, b""))
    after = bootstrap_pb2.Bootstrap.FromString(patched.merged(base, patch(GOOD)))
    assert (after.node.id, after.admin) == (before.node.id, before.admin)
    assert (after.stats_flush_interval.seconds, after.stats_flush_interval.nanos) == (2, 0)
    assert after.stats_config.use_all_default_tags.value is False
    assert len(after.stats_config.stats_tags) == len(before.stats_config.stats_tags) + 1
    assert [each.name for each in after.static_resources.clusters][-1] == "added"


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"admin": 5}, b""),
        ({}, b"\xff"),
        ({"admin": {"access_log": [{"typed_config": {"@type": "a/no.v1.Type"}}]}}, b""),
    ],
)
def test_what_is_no_bootstrap_is_not_merged(base: dict[str, Any], said: bytes) -> None:
    with pytest.raises(patched.PatchError):
        patched.merged(base, said)


def test_types_that_are_not_there_are_the_parsers_to_tell() -> None:
    packed = {"@type": names.TYPE_PREFIX + "envoy.no.such.v3.Type"}
    with pytest.raises(patched.PatchError):
        patched.merged({"admin": {"access_log": [{"name": "a", "typed_config": packed}]}}, b"")


def client(folder: Path, control: support.Istiod) -> identity.CaClient:
    given = support.prepare(folder, control, support.Ports())
    return identity.CaClient(
        address=given["CA_ADDR"],
        server_name="istiod.istio-system.svc",
        token=folder / "var/run/secrets/tokens/istio-token",
        roots=identity.Roots(folder / "var/run/secrets/istio/root-cert.pem"),
    )


async def asked(folder: Path, ads: AdsService | None, words: str = "", seconds: float = 30.0) -> bytes:
    async def check(_: bytes) -> str:
        return words

    async with support.istiod(ads=ads) as control:
        return await patches.applied(client(folder, control), {"node": NODE}, check, seconds)


async def test_istiod_is_asked_and_told(tmp_path: Path) -> None:
    found = await asked(tmp_path, served(GOOD))
    assert [each.name for each in bootstrap_pb2.Bootstrap.FromString(found).static_resources.clusters] == ["added"]
    assert await asked(tmp_path, served()) == b""
    refused = served(GOOD)
    assert await asked(tmp_path, refused, "not so") == b""
    kept = refused._wiring.shared.quarantine.rejections()
    assert [(each.error, each.resource.type_url) for each in kept] == [("not so", names.BOOTSTRAP)]


async def test_without_an_answer_it_is_not_waited_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    waiting = asyncio.create_task(asked(tmp_path, None, seconds=60))
    await until(lambda: "yet: UNIMPLEMENTED" in caplog.text, "it says why it waits")
    waiting.cancel()
    await asyncio.wait([waiting])
    silent = AdsService(made.Fixed(ready=False), time.monotonic)
    assert await asked(tmp_path, silent, seconds=0.5) == b""
    assert "within 0.5 s: Envoy starts without them" in caplog.text


def logged(pod: support.Pod, words: str) -> Callable[[], bool]:
    return lambda: words in pod.log()


@pytest.mark.envoy
async def test_envoy_runs_with_the_patches(tmp_path: Path) -> None:
    async with support.istiod(ads=served(GOOD)) as control, support.pod(tmp_path, control, **ASKS) as pod:
        control.serve.set()
        await until(pod.ready, "the proxy is ready")
        dumped = json.loads((await pod.get(pod.admin, "/config_dump")).body)
        (own,) = (each["bootstrap"] for each in dumped["configs"] if "BootstrapConfigDump" in each["@type"])
        assert own["stats_flush_interval"] == "2s"
        assert own["stats_config"]["stats_tags"][-1]["tag_name"] == "mine"
        assert "added" in [each["name"] for each in own["static_resources"]["clusters"]]
        assert control.nodes[0].metadata[names.BOOTSTRAP_XDS_AGENT] == "true"
        assert "the bootstrap is patched by EnvoyFilters" in pod.log()


@pytest.mark.envoy
async def test_patches_that_envoy_refuses_keep_no_pod_from_starting(tmp_path: Path) -> None:
    ads = served(BAD)
    async with support.istiod(ads=ads) as control, support.pod(tmp_path, control, **ASKS) as pod:
        control.serve.set()
        await until(pod.ready, "the proxy is ready")
        assert "the bootstrap with its patches is refused, Envoy starts without them" in pod.log()
        (told,) = ads._wiring.shared.quarantine.rejections()
        assert "Name: value length must be at least 1" in told.error
        assert told.proxies == ("sleep-1.default",)


@pytest.mark.envoy
async def test_a_pod_may_end_while_istiod_is_waited_for(tmp_path: Path) -> None:
    async with support.istiod() as control, support.pod(tmp_path, control, **ASKS) as pod:
        await until(logged(pod, "no patches of the bootstrap"), "it waits")
        began = time.monotonic()
        pod.process.terminate()
        assert await pod.process.wait() == 0
        assert time.monotonic() - began < patches.PATIENCE / 2
        assert "Envoy" not in pod.log().replace("Envoy starts", "")

"""How old what a replica knows may be, while it does not reach the API server and another one does (FT47)."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from crds.registry import KINDS
from e2e.harness.controlplane import Cluster, control_plane
from istiod.config.kubernetes import FORBIDDEN, ApiError
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.reach import Reach
from tests import figures
from tests.kube.conftest import install
from tests.kube.following import becomes, make, until
from tests.kube.test_discovery import Istiod
from tests.kube.test_replicas import SHOP, SYSTEM, Recorded, replica
from wire import names

CUT_OFF = figures.lasting(12)
PATIENCE = 1.0
"""Seconds by which two looks at a busy machine may differ."""
ADDRESSES = {"sees": "198.18.47.1", "blind": "198.18.47.2"}
"""Of the pods; Kubernetes takes none of loopback as an endpoint."""
SENT_AWAY = (503, "waiting for the API server: silent here, while it answers another replica\n")
AGE = re.compile(r"^pilot_source_age_seconds (\S+)$", re.MULTILINE)


class Answers:
    """An API server that answers as it is told, and how often it was asked."""

    def __init__(self) -> None:
        self.error: ApiError | None = None
        self.silent = False
        self.asked = 0

    async def request(self, method: str, path: str, *, deadline: float) -> object:
        assert (method, path) == ("get", "/api/v1/namespaces/istio-system")
        self.asked += 1
        if self.silent:
            await asyncio.sleep(deadline)
            raise ApiError("no answer")
        if self.error is not None:
            raise self.error
        return {}


async def asked_once_more(reach: Reach, answers: Answers) -> None:
    """Until one more question has been asked and answered."""
    before = answers.asked
    task = asyncio.create_task(reach.run())
    try:
        await until(lambda: answers.asked > before, "it asks")
        await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_age_counts_from_the_last_question_that_was_answered() -> None:
    clock, answers = [100.0], Answers()
    reach = Reach(answers, SYSTEM, lambda: clock[0])
    assert reach.age == 0
    await asked_once_more(reach, answers)
    clock[0] = 107.0
    assert reach.age == 0, "nothing says that it does not answer"
    answers.error = ApiError("no answer")
    await asked_once_more(reach, answers)
    assert reach.age == 7
    answers.error = None
    await asked_once_more(reach, answers)
    assert reach.age == 0


async def test_a_refusal_is_an_answer_and_silence_is_noticed_at_once() -> None:
    clock, answers = [100.0], Answers()
    reach = Reach(answers, SYSTEM, lambda: clock[0])
    answers.error = ApiError("refused", status=FORBIDDEN)
    await asked_once_more(reach, answers)
    clock[0] = 104.0
    assert reach.age == 0
    answers.silent = True
    task = asyncio.create_task(reach.run())
    await until(lambda: reach.age == 4, "silence is noticed before the deadline", 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with control_plane(controllers=False) as made:
        install(made, [info for info in KINDS.values() if info.group.endswith(".istio.io")])
        for space in (SYSTEM, SHOP):
            made.kubectl("create", "namespace", space)
        yield made


async def age(istiod: Istiod) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"http://{istiod.http}/metrics") as answer:
        found = AGE.search(await answer.text())
    assert found is not None
    return float(found[1])


@pytest.mark.apiserver
@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
async def test_a_replica_that_is_cut_off_serves_on_and_says_how_old_what_it_knows_is(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path
) -> None:
    async with replica(kubeconfig, tmp_path, "sees") as sees, replica(kubeconfig, tmp_path, "blind") as blind:
        for each in (sees, blind):
            await becomes(each.istiod.ready, lambda said: said == (200, "ok"), 300)
        assert (await age(sees.istiod), await age(blind.istiod)) == (0, 0)
        blind.proxy.watching.clear()
        blind.proxy.open.clear()
        began = time.monotonic()
        await make(client, SHOP, ["late"])
        await asyncio.sleep(CUT_OFF)  # the fault lasts
        real = time.monotonic() - began
        said = await age(blind.istiod)
        assert await age(sees.istiod) == 0
        old, new = await blind.istiod.clusters(), await sees.istiod.clusters()
        assert isinstance(old, list)
        assert isinstance(new, list)
        assert len(new) == len(old) + 1, "one has the new Service, the other serves what it knew"
        figures.fault("FT47", f"cut off for {real:.1f} s, its metric says {said:.1f} s; it serves on")
        assert abs(said - real) <= 1.0 + PATIENCE
        blind.proxy.watching.set()
        blind.proxy.open.set()
        began = time.monotonic()
        while len(found if isinstance(found := await blind.istiod.clusters(), list) else []) != len(new):
            assert time.monotonic() - began < 60
        while await age(blind.istiod):
            assert time.monotonic() - began < 60


@pytest.fixture
def addresses() -> Iterator[None]:
    """Those of the replicas' pods, on this machine's loopback device."""
    for each in ADDRESSES.values():
        subprocess.run(["ip", "address", "replace", f"{each}/32", "dev", "lo"], check=True)
    yield
    for each in ADDRESSES.values():
        subprocess.run(["ip", "address", "delete", f"{each}/32", "dev", "lo"], check=True)


async def as_pods(client: KubernetesClient) -> None:
    """Let the API server know both replicas, as pods and as endpoints of their Service."""
    core = f"/api/v1/namespaces/{SYSTEM}"
    await client.request("post", f"{core}/serviceaccounts", {"metadata": {"name": "istiod"}})
    spec = {
        "containers": [{"name": "discovery", "image": "pilot"}],
        "schedulerName": "none",
        "serviceAccountName": "istiod",
    }
    for name, address in ADDRESSES.items():
        await client.request("post", f"{core}/pods", {"metadata": {"name": name}, "spec": spec})
        status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        await client.request("patch", f"{core}/pods/{name}/status", status, kind=MERGE_PATCH)
    endpoints = [
        {"addresses": [address], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": name}}
        for name, address in ADDRESSES.items()
    ]
    await client.request(
        "post",
        f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices",
        {
            "metadata": {"name": "istiod-1", "labels": {"kubernetes.io/service-name": "istiod"}},
            "addressType": "IPv4",
            "ports": [{"name": "https-dns", "port": names.CA_PORT}],
            "endpoints": endpoints,
        },
    )


def cut(one: Recorded, *, off: bool) -> None:
    for gate in (one.proxy.watching, one.proxy.open):
        (gate.clear if off else gate.set)()


@pytest.mark.apiserver
@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
@pytest.mark.usefixtures("addresses")
async def test_a_replica_is_out_of_service_only_while_another_one_knows_more(
    client: KubernetesClient, kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOT_SOURCE_AGE_LIMIT", "10s")
    await as_pods(client)
    ports = {name: f"{address}:{names.CA_PORT}" for name, address in ADDRESSES.items()}
    async with (
        replica(kubeconfig, tmp_path, "sees", secure=ports["sees"]) as sees,
        replica(kubeconfig, tmp_path, "blind", secure=ports["blind"]) as blind,
    ):

        async def both(wanted: tuple[tuple[int, str], tuple[int, str]]) -> None:
            for one, said in zip((sees, blind), wanted, strict=True):
                await becomes(one.istiod.ready, lambda got, said=said: got == said, 120)

        ready = (200, "ok")
        await both((ready, ready))
        cut(blind, off=True)
        began = time.monotonic()
        await both((ready, SENT_AWAY))
        figures.fault("FT47", f"not ready after {time.monotonic() - began:.1f} s, with a limit of 10 s")
        cut(sees, off=True)
        await both((ready, ready))
        assert await age(blind.istiod) > 10, "nobody knows more: both serve what they know"
        cut(blind, off=False)
        await both((SENT_AWAY, ready))
        cut(sees, off=False)
        await both((ready, ready))

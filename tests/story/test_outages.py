"""The whole control plane is away for a long time, under load through real Envoys (faults FT10, FT37)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from examples.demo.mesh import PATIENCE
from node import network, system
from node.errors import MeshError
from tests import figures
from tests.story import changes, test_ca_rotation, worlds
from tests.story.test_ca_rotation import Running
from wire import names

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
OUTAGE = figures.lasting(3600)
"""Seconds that all istiods are away (FT10)."""
LIFE = figures.lasting(3600)
"""Seconds that a certificate lives whose CA is away for half of them (FT37)."""
GATEWAY = f"{names.ROOT_NAMESPACE}/{system.GATEWAY}"
REFUSE = ("-p", "tcp", "--dport", "15012", "-j", "REJECT", "--reject-with", "tcp-reset")
"""What makes the CA refuse connections, from one moment to another: a start takes long on a busy machine."""
LATE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "late", "labels": {"app": "hello", "version": "v1"}},
    "spec": {
        "containers": [
            {"name": "hello", "image": "istio/examples-helloworld-v1", "ports": [{"containerPort": 5000}]},
        ]
    },
}
"""A pod that comes while nobody is there to give it a certificate."""
ALARM = "ALARM: less than a quarter of the certificate's life is left"
ASK = ("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}")


async def away(found: Running) -> str:
    """End all istiods; what brings them back."""
    manifests = yaml.safe_load_all(system.manifests(found.mesh.config.parent, found.mesh.options))
    (deployment,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == ("Deployment", "istiod"))
    await found.mesh.delete("Deployment", "istiod", names.ROOT_NAMESPACE)
    await found.mesh.wait(lambda: not istiods(found), 30, "no istiod")
    return changes.text([deployment])


async def signing(found: Running, rule: str) -> None:
    """Let the CA refuse connections (``-I``), or accept them again (``-D``)."""
    (name,) = istiods(found)
    pid = found.mesh.pod(f"{names.ROOT_NAMESPACE}/{name}").containers["discovery"].pid
    await network.command("nsenter", "-t", str(pid), "-n", "iptables", rule, "INPUT", *REFUSE)


def istiods(found: Running) -> Sequence[str]:
    labelled = (each["metadata"] for each in found.mesh.pods())
    return [each["name"] for each in labelled if each["labels"].get("app") == "istiod"]


def proxies(found: Running) -> list[str]:
    """NAMESPACE/NAME of pods with a proxy that serves."""
    return [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in found.mesh.pods()
        if each["metadata"]["name"] != "late" and each["metadata"]["labels"].get("app") != "istiod"
    ]


def runs(found: Running, pod: str, container: str) -> bool:
    """Whether there is such a pod, and its container's command runs."""
    try:
        held = found.mesh.pod(pod).containers.get(container)
    except MeshError:
        return False
    return held is not None and bool(held.pid)


async def page(found: Running, pod: str, address: str) -> str:
    """A page of a pod's proxy or agent."""
    code, out, err = await found.mesh.exec(pod, ["curl", "-s", f"localhost:{address}"], "istio-proxy")
    assert code == 0, err
    return out


async def ends(found: Running) -> list[dt.datetime]:
    """When the certificates end that Envoys use."""
    pages = [json.loads(await page(found, pod, "15000/certs")) for pod in proxies(found)]
    chains = (each["cert_chain"] for told in pages for each in told["certificates"])
    return [dt.datetime.fromisoformat(leaf["expiration_time"]) for chain in chains for leaf in chain]


def alarmed(found: Running) -> set[str]:
    """Pods whose agents have said that less than a quarter of the life is left."""
    return {pod for pod in proxies(found) if ALARM in found.mesh.logs(pod, "istio-proxy")}


async def left(found: Running) -> float:
    """Seconds until the first certificate ends."""
    return (min(await ends(found)) - dt.datetime.now(dt.UTC)).total_seconds()


@pytest.mark.long
async def test_a_control_plane_that_is_away_for_long_costs_no_request_and_opens_nothing() -> None:
    """FT10: a new pod waits meanwhile, lets nobody in or out without a certificate, and serves once istiod is back."""
    async with test_ca_rotation.running(2.5 * OUTAGE) as found:
        back = await away(found)
        loop = asyncio.get_running_loop()
        over = loop.time() + OUTAGE
        await found.mesh.apply(changes.text([LATE]))
        await found.mesh.wait(lambda: runs(found, "late", "hello"), 60, "the new pod runs")
        address = str(found.mesh.pod("late").state.address)
        while (rest := over - loop.time()) > 0:
            await asyncio.sleep(min(rest, OUTAGE / 10))
            assert found.load.failed == []
            assert await left(found) > 0
            out = await found.mesh.exec("late", [*ASK, "http://hello:5000/hello"], "hello")
            assert out[1] == "000", "it gets out without a certificate"
            into = await found.mesh.exec(GATEWAY, [*ASK, f"http://{address}:5000/hello"], "istio-proxy")
            assert into[1] == "000", "somebody gets in without a certificate"
            assert not found.mesh.pod("late").state.ready
        await found.mesh.apply(back)
        await found.mesh.ready(PATIENCE)
        code, answer, _ = await found.mesh.exec("late", [*ASK, "http://hello:5000/hello"], "hello")
        assert (code, answer) == (0, "200")
        assert found.load.failed == []
        figures.fault("FT10", f"0 of {found.load.sent} lost, all istiods away for {OUTAGE:.0f} s; a new pod waited")


@pytest.mark.long
async def test_no_certificate_ends_while_the_ca_is_away_for_half_of_its_life() -> None:
    """FT37: it goes before anybody has renewed, and is back with a sixth of the life left; each quarter is an alarm.

    (That sixth is ten minutes of an hour: of the scaled one, agents that come again every 12 s need some.)
    """
    async with test_ca_rotation.running(LIFE) as found:
        await asyncio.sleep(max(0.0, await left(found) - 0.67 * LIFE))
        await signing(found, "-I")
        loop = asyncio.get_running_loop()
        over = loop.time() + LIFE / 2
        while (rest := over - loop.time()) > 0:
            await asyncio.sleep(min(rest, 2.0))
            assert await left(found) > 0
        least, told = await left(found), alarmed(found)
        assert told == set(proxies(found)), "each has said that a quarter is left"
        await signing(found, "-D")

        async def renewed() -> bool:
            now = await left(found)
            assert now > 0, "one has ended"
            return now > 0.5 * LIFE

        await worlds.until("all have renewed", renewed, LIFE / 2)
        assert found.load.failed == []
        least_said = f"{least:.0f} s were left when it came back after {LIFE / 2:.0f} s"
        ended = f"no certificate of {LIFE:.0f} s ended, {least_said}; {len(told)} alarms"
        figures.fault("FT37", f"0 of {found.load.sent} lost, {ended}")

"""The CA's Secrets in a real cluster: replicas follow them, and one that leads replaces a root (fault FT36, row O6)."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from e2e.harness.controlplane import Cluster
from istiod import ca_secrets
from istiod.ca import authority, following, keystore, rollover
from istiod.ca_secrets import Own, SecretPlace
from istiod.config.kubernetes import ApiError
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.lease import Candidate, Leader
from tests.ca import chains
from tests.kube.following import becomes, until
from tests.kube.test_discovery import discovery
from wire.ca import OWN_CA, PLUGGED_IN, ROTATE, ROTATION, STATUS

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]


class Mesh:
    """The objects of a root namespace that speak of its CA."""

    def __init__(self, client: KubernetesClient, namespace: str, kubeconfig: str = "") -> None:
        self._client = client
        self._namespace = namespace
        self._kubeconfig = kubeconfig
        self._base = f"/api/v1/namespaces/{namespace}"

    async def state(self) -> rollover.State:
        found = await self._client.request("get", f"{self._base}/secrets/{ROTATION}")
        return rollover.load(base64.b64decode(found["data"]["state"]).decode())

    async def status(self) -> str:
        found = await self._client.request("get", f"{self._base}/secrets/{ROTATION}")
        return str((found["metadata"].get("annotations") or {}).get(STATUS, ""))

    async def published(self) -> int:
        """How many roots the state publishes."""
        return len((await self.state()).roots)

    async def told(self) -> tuple[str, ...]:
        """Roots of the ConfigMap that pods have."""
        try:
            found = await self._client.request("get", f"{self._base}/configmaps/istio-ca-root-cert")
        except ApiError:  # not yet
            return ()
        return authority.split(found["data"]["root-cert.pem"])

    async def rotate(self) -> None:
        wish = {"metadata": {"annotations": {ROTATE: "now"}}}
        await self._client.request("patch", f"{self._base}/secrets/{OWN_CA}", wish, kind=MERGE_PATCH)

    async def ask(self, *command: str) -> str:
        """What istioctl says of the CA of this namespace, also where it fails."""
        own = ("-c", self._kubeconfig, "-i", self._namespace)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "istioctl", "x", "ca", *command, *own),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return out.decode()

    async def wished(self) -> bool:
        found = await self._client.request("get", f"{self._base}/secrets/{OWN_CA}")
        return ROTATE in (found["metadata"].get("annotations") or {})

    async def plug_in(self, material: authority.Material, *, exists: bool = False) -> None:
        data = {name: base64.b64encode(value).decode() for name, value in keystore.pack(material).items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": PLUGGED_IN}, "data": data}
        path = f"{self._base}/secrets"
        if exists:
            await self._client.request("patch", f"{path}/{PLUGGED_IN}", body, kind=MERGE_PATCH)
        else:
            await self._client.request("post", path, body)


async def test_a_root_is_made_anew_by_annotation_over_a_change_of_leader(
    cluster: Cluster, client: KubernetesClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOT_CA_ROTATION_WAIT", "4s")
    mesh = Mesh(client, namespace, str(cluster.kubeconfig))
    logs = [tmp_path / "first", tmp_path / "second"]
    async with AsyncExitStack() as stack:
        async with discovery(str(cluster.kubeconfig), namespace, logs[0], pod="first") as first:
            await becomes(first.ready, lambda said: said[0] == 200, 60)
            second = await stack.enter_async_context(
                discovery(str(cluster.kubeconfig), namespace, logs[1], pod="second")
            )
            await becomes(second.ready, lambda said: said[0] == 200, 60)
            await becomes(mesh.told, lambda roots: len(roots) == 1, 20)
            (old,) = await mesh.told()
            assert "A new self-signed root is asked for (Secret" in await mesh.ask("rotate")
            await becomes(mesh.published, lambda count: count == 2, 20)
            await becomes(mesh.told, lambda roots: len(roots) == 2, 20)
            assert not await mesh.wished()
            state = await mesh.state()
            assert state.signer is not None  # the old CA signs, with the key that is kept here
            assert "does not sign yet" in await mesh.status()
        await becomes(mesh.told, lambda roots: len(roots) == 1 and old not in roots, 60)
        state = await mesh.state()
        assert (len(state.roots), state.signer) == (1, None)
        assert await mesh.status() == ""
        assert "signs with another CA" in logs[1].read_text()
        assert "nothing is being replaced; 1 root(s) published" in await mesh.ask("status", "--wait")
        await mesh.plug_in(authority.self_signed("mine", chains.now()))
        own = "Error: the CA is your own: replace Secret"
        await becomes(partial(mesh.ask, "rotate"), lambda said: own in said, 60)  # when it has taken the CA's place
        await mesh.rotate()

        async def said() -> str:
            return logs[1].read_text()

        await becomes(said, lambda text: f"{ROTATE} is for the self-signed root" in text, 40)


async def test_the_users_own_ca_is_followed_and_its_intermediate_swapped(
    cluster: Cluster, client: KubernetesClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault FT35: without a restart; a Secret that cannot work changes nothing, and is said."""
    monkeypatch.setenv("PILOT_CA_ROTATION_WAIT", "1s")
    mesh, root = Mesh(client, namespace), authority.self_signed("mine", chains.now())
    log = tmp_path / "log"
    await mesh.plug_in(chains.intermediate(root, "first"))
    async with discovery(str(cluster.kubeconfig), namespace, log) as istiod:
        await becomes(istiod.ready, lambda said: said[0] == 200, 60)
        await becomes(mesh.told, lambda roots: [each.encode() for each in roots] == [root.certificate], 20)
        foreign = authority.self_signed("other", chains.now())
        await mesh.plug_in(chains.trusting(chains.intermediate(root, "lost"), foreign), exists=True)

        async def said() -> str:
            return log.read_text()

        await becomes(said, lambda text: "does not lead to one of its roots" in text, 20)
        await mesh.plug_in(chains.intermediate(root, "second", dt.timedelta(days=77)), exists=True)
        until = (chains.now() + dt.timedelta(days=77)).strftime("%Y-%m-%d")
        await becomes(said, lambda text: f"1 root(s), CA until {until}" in text, 20)
        await mesh.plug_in(chains.trusting(chains.intermediate(foreign), foreign, root), exists=True)
        await becomes(mesh.told, lambda roots: len(roots) == 2, 20)
        await becomes(said, lambda text: "2 root(s), CA until" in text, 20)
        assert x509.load_pem_x509_certificates("".join(await mesh.told()).encode())


async def test_a_replica_tells_only_of_lives_that_nobody_knows_of(
    client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    """Else each replica that ever signed would leave a line in the Secret, until it is too large to be written."""
    leader = Leader(client, Candidate(namespace=namespace, name="istio-leader", identity="one"))
    own = Own(
        namespace=namespace, replica="one", organization=lambda: "mine", mounted=tmp_path / "none", now=chains.now
    )
    place = SecretPlace(client, leader, own)
    day = 24 * 3600.0
    state = rollover.first(authority.Authority(authority.self_signed("mine", chains.now())), 0.0, day)
    path = f"/api/v1/namespaces/{namespace}/secrets"
    await client.request("post", path, ca_secrets.new({"state": rollover.dump(state).encode()}))

    async def lines() -> list[str]:
        found = await client.request("get", f"{path}/{ROTATION}")
        return [name for name in found["data"] if name.startswith("replica.")]

    tasks = [asyncio.create_task(each.follow()) for each in place.collections]
    try:
        await until(lambda: place.collections[2].listed, "the state is read")
        await place.report(rollover.Seen(longest=day), state.fingerprint)
        assert await lines() == []
        await place.report(rollover.Seen(longest=2 * day), state.fingerprint)
        assert await lines() == ["replica.one"]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_led_before_does_not_write_over_what_came_after(
    client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    """Two may take themselves for the leader for a moment: who knows less than what is there writes nothing."""
    own = Own(namespace=namespace, replica="x", organization=lambda: "mine", mounted=tmp_path / "no", now=chains.now)
    alone = Leader(client, Candidate(namespace="", name="", identity=""), alone=True)
    old, new = SecretPlace(client, alone, own), SecretPlace(client, alone, own)
    states = [rollover.first(authority.Authority(authority.self_signed("x", chains.now())), 0.0, 1.0) for _ in range(3)]
    await old.keep(states[0], "")
    tasks = [asyncio.create_task(each.follow()) for each in new.collections]
    try:
        await until(lambda: new.state() == states[0], "the other one has read it")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await new.keep(states[1], "")
    await new.keep(states[2], "")  # its own writes are known to it
    with pytest.raises(following.OutdatedError):
        await old.keep(states[1], "")
    mesh = Mesh(client, namespace)
    assert await mesh.state() == states[2]

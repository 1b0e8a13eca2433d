"""The CA is replaced while proxies are connected by real TLS: they renew and come back as Envoys and agents do."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.sds import identity
from istiod.ca import authority, following, keystore, place, rollover, server, serving, tokens
from istiod.ca.signer import Signer
from istiod.grpcserver.deadlines import Limits
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Server
from istiod.grpcserver.stream import Client, Receiver, Stream
from tests.ca import chains
from tests.waiting import until
from wire import exposition
from wire.spiffe import Identity

SLEEP = Identity("cluster.local", "default", "sleep")
KEY = ec.generate_private_key(ec.SECP256R1())
LIFE = dt.timedelta(seconds=4)
HOLD = "/test/Hold"


class Held:
    """A call that says nothing and does not end."""

    def __init__(self, stream: Stream, request: Request) -> None:
        del stream, request

    def message(self, raw: bytes) -> None:
        """Hear it."""

    def done(self) -> None:
        """The client has said all."""

    def drained(self) -> None:
        """Nothing is sent."""

    def lost(self) -> None:
        """It is over."""


def hold(stream: Stream, request: Request) -> Receiver:
    return Held(stream, request)


@dataclass
class World:
    """A control plane's CA in a folder, its server, and what it said."""

    folder: Path
    signer: Signer
    server: Server
    port: int
    said: list[str]
    handshakes_failed: list[str] = field(default_factory=list)

    def status(self) -> str:
        return (self.folder / place.STATUS).read_text().strip()

    def roots(self) -> list[bytes]:
        return [each.encode() for each in authority.split(self.signer.roots)]


@contextlib.asynccontextmanager
async def world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(following, "LOOK", 0.05)
    wanted = place.load_or_create(folder, "cluster.local", chains.now())
    files = place.FolderPlace(folder, "cluster.local", chains.now)
    signer = Signer(following.resumed(files.state(), wanted, chains.now().timestamp()))
    certificate = serving.ServingCertificate(signer, chains.now)
    signer.listen(certificate.renew)
    verifier = tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", chains.now)
    service = server.CertificateService(signer, verifier, chains.now)
    running = Server({**service.methods(), HOLD: hold}, Limits(grace=0.4))
    port = running.listen("127.0.0.1:0", certificate.context)
    said: list[str] = []
    proxies = following.Proxies(clients=running.clients, hasten=running.hasten)
    clock = following.Clock(now=lambda: chains.now().timestamp(), wait=0.8)
    task = asyncio.create_task(following.Following(files, signer, proxies, clock, said.append).run())
    try:
        yield World(folder, signer, running, port, said)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await running.stop(0)


class Proxy:
    """An agent that renews each half life, and its Envoy's stream, which comes back with what the agent has then."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        roots, token = folder / "roots", folder / "token"
        folder.mkdir()
        roots.write_bytes(b"".join(world.roots()))
        account = tokens.Account(namespace="default", service_account="sleep")
        token.write_text(tokens.mint(KEY, account, chains.now()))
        self._client = identity.CaClient(
            address=f"127.0.0.1:{world.port}",
            server_name="localhost",
            token=token,
            roots=identity.Roots(roots),
            ttl=LIFE,
        )
        self.held: identity.Certificate | None = None
        self.thawed = asyncio.Event()
        self.thawed.set()

    async def renew(self) -> None:
        while True:
            await self.thawed.wait()
            self.held = await identity.obtain(self._client.sign, SLEEP)
            self._client.roots.named = self.held.roots  # the mounted file is as late as a ConfigMap's
            await asyncio.sleep(LIFE.total_seconds() / 4)

    async def connect(self) -> None:
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        while True:
            if (held := self.held) is None:
                await asyncio.sleep(0.02)
                continue
            credentials = grpc.ssl_channel_credentials(held.roots, held.key, held.chain)
            async with grpc.aio.secure_channel(f"127.0.0.1:{self._world.port}", credentials, options) as channel:
                call = channel.stream_stream(HOLD)()
                try:
                    await call.write(b"")
                    await call.read()
                except grpc.aio.AioRpcError as error:
                    if "handshake" in str(error.details()).lower():
                        self._world.handshakes_failed.append(str(error.details()))


@contextlib.asynccontextmanager
async def connected(world: World, folder: Path, count: int) -> AsyncIterator[list[Proxy]]:
    proxies = [Proxy(world, folder / f"proxy-{i}") for i in range(count)]
    tasks = [asyncio.create_task(part) for each in proxies for part in (each.renew(), each.connect())]
    await until(lambda: len(world.server.clients()) >= count, "all are connected")
    try:
        yield proxies
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended


async def test_a_root_is_replaced_step_by_step_and_a_frozen_agent_holds_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault FT36, scaled down: the operator swaps the whole CA at once."""
    new = authority.self_signed("cluster.local", chains.now())
    async with world(tmp_path / "ca", monkeypatch) as found, connected(found, tmp_path, 3) as proxies:
        old = found.signer.current.material.certificate
        proxies[0].thawed.clear()
        keystore.Folder(found.folder).store(new)
        await until(lambda: found.roots() == [old, new.certificate], "both roots are published")
        waits = "1 connected proxies are without the new root"
        await until(lambda: waits in found.status(), waits, 3 * LIFE.total_seconds())
        assert found.signer.current.anchor.encode() == old
        proxies[0].thawed.set()
        await until(lambda: found.signer.current.anchor.encode() == new.certificate, "the new CA signs")
        assert found.roots() == [old, new.certificate]
        assert "the old root is not removed" in found.status()
        await until(lambda: found.roots() == [new.certificate], "the old root is removed")
        assert found.status() == ""
        assert found.handshakes_failed == []
        held = [each.held.roots for each in proxies if each.held is not None]
        await until(lambda: [each.held.roots for each in proxies if each.held] != held, "all have renewed again")


async def test_an_intermediate_is_swapped_at_once_and_what_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault FT35, and what a hand may do wrong while it replaces files."""
    root = authority.self_signed("cluster.local", chains.now())
    first, second = chains.intermediate(root), chains.intermediate(root, "another")
    keystore.Folder(tmp_path / "ca").store(first)
    async with world(tmp_path / "ca", monkeypatch) as found, connected(found, tmp_path, 1) as (proxy,):
        assert found.signer.current.material.certificate == first.certificate
        (found.folder / keystore.KEY).write_bytes(second.key)
        await until(lambda: any("the key does not belong" in line or "belong" in line for line in found.said), "a word")
        assert found.signer.current.material.certificate == first.certificate
        keystore.Folder(found.folder).store(second)
        await until(lambda: found.signer.current.material.certificate == second.certificate, "the other one signs")
        await until(lambda: proxy.held is not None and second.certificate in proxy.held.chain, "its chain is given out")
        lost = chains.intermediate(authority.self_signed("x", chains.now()))
        keystore.Folder(found.folder).store(chains.trusting(lost, root))
        await until(lambda: any("does not lead to one of its roots" in line for line in found.said), "it is refused")
        assert found.signer.current.material.certificate == second.certificate
        assert found.handshakes_failed == []


async def test_a_file_asks_for_a_new_self_signed_root_and_a_restart_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path / "ca", monkeypatch) as found, connected(found, tmp_path, 1) as (proxy,):
        old = found.signer.current.material.certificate
        proxy.thawed.clear()
        (found.folder / keystore.ROTATE).touch()
        await until(lambda: len(found.roots()) == 2, "a second root is published")
        assert not (found.folder / keystore.ROTATE).exists()
        assert found.signer.current.anchor.encode() == old
    async with world(tmp_path / "ca", monkeypatch) as found:  # no proxy is left: what is published is known to all
        assert found.signer.current.anchor.encode() == old
        await until(lambda: found.signer.current.anchor.encode() != old, "the new CA signs")
        assert len(found.roots()) == 2


async def test_a_root_of_the_operators_own_is_not_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore.Folder(tmp_path / "ca").store(chains.intermediate(authority.self_signed("x", chains.now())))
    async with world(tmp_path / "ca", monkeypatch) as found:
        await until((found.folder / keystore.STATE).exists, "it is read")
        (found.folder / keystore.ROTATE).touch()
        await until(lambda: any("only a self-signed root" in line for line in found.said), "a word")
        await until(lambda: not (found.folder / keystore.ROTATE).exists(), "the wish is put away")
        assert len(found.roots()) == 1


@pytest.mark.parametrize("name", [keystore.STATE, keystore.ROTATE])
async def test_what_cannot_be_read_or_put_away_is_said_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A state that is no text; a wish that is a folder, which would bring a new root at each look."""
    folder = tmp_path / "ca"
    place.load_or_create(folder, "cluster.local", chains.now())
    async with world(folder, monkeypatch) as found:
        files = place.FolderPlace(folder, "cluster.local", chains.now)
        before = (folder / keystore.CERTIFICATE).read_bytes()
        if name == keystore.STATE:
            (folder / name).write_bytes(b"\xff\xfe")
            with pytest.raises(authority.AuthorityError, match="cannot read"):
                files.state()
        else:
            (folder / name).mkdir()
            await until(lambda: any("cannot remove" in line for line in found.said), "a word")
        assert (folder / keystore.CERTIFICATE).read_bytes() == before
        assert len(found.roots()) == 1


class Shared:
    """A following.Place of several replicas, in memory; only the leader's view is played."""

    def __init__(self, wanted: authority.Material, state: rollover.State) -> None:
        self.leads = False
        self.outdated = False
        self._wanted = wanted
        self.kept = state

    def wanted(self) -> authority.Material:
        return self._wanted

    def state(self) -> rollover.State:
        return self.kept

    def others(self, fingerprint: int) -> tuple[rollover.Seen, ...]:
        del fingerprint
        return ()

    async def keep(self, state: rollover.State, status: str) -> None:
        del status
        if self.outdated:
            self.outdated = False
            raise following.OutdatedError("somebody was faster")
        self.kept = state

    async def report(self, seen: rollover.Seen, fingerprint: int) -> None:
        """Nobody reads it."""

    async def renew(self, state: rollover.State, signer: authority.Authority, *, aged: bool) -> bool:
        del state, signer, aged
        return False


async def test_a_new_leader_gives_the_old_one_time_to_tell_of_its_proxies() -> None:
    """An old leader has told nobody whom it serves: its proxies may lack the root that the new one's all have."""
    old, new = (authority.self_signed("cluster.local", chains.now()) for _ in range(2))
    before, now = authority.Authority(old), 1000.0
    begun = rollover.step(rollover.first(before, 0.0, 3600.0), authority.Authority(new), before, rollover.Seen(), 100.0)
    shared, signer = Shared(new, begun.state), Signer(begun.signer)
    proxies = following.Proxies(clients=tuple, hasten=lambda *_: None)
    follows = following.Following(shared, signer, proxies, following.Clock(now=lambda: now, wait=30.0), print)
    now = 1100.0  # long after its start
    await follows.look()
    shared.leads = True
    await follows.look()
    assert signer.current.anchor.encode() == old.certificate
    now += 29
    await follows.look()
    assert shared.kept.waits
    now += 2
    await follows.look()
    assert signer.current.anchor.encode() == new.certificate


async def test_a_write_that_came_too_late_is_tried_again_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK", 0.01)
    old, new = (authority.self_signed("cluster.local", chains.now()) for _ in range(2))
    shared = Shared(new, rollover.first(authority.Authority(old), 0.0, 3600.0))
    shared.leads = shared.outdated = True
    said: list[str] = []
    proxies = following.Proxies(clients=tuple, hasten=lambda *_: None)
    clock = following.Clock(now=lambda: 1000.0, wait=30.0)
    task = asyncio.create_task(
        following.Following(shared, Signer(authority.Authority(old)), proxies, clock, said.append).run()
    )
    try:
        await until(lambda: len(shared.kept.roots) == 2, "both roots are published")
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert not shared.outdated
    assert [line for line in said if "stays as it is" in line] == []


def test_who_shows_no_certificate_is_taken_for_the_proxy_of_its_address() -> None:
    ca = authority.Authority(authority.self_signed("cluster.local", chains.now()))
    leaf = ssl.PEM_cert_to_DER_cert(ca.serving(("x",), chains.now()).certificate.decode())
    mark = authority.fingerprint(authority.split(ca.roots))
    proxy = Client(address="10.0.0.1:1", secure=True, certificate=leaf)
    names = Client(address="10.0.0.1:2", secure=True)
    alone = Client(address="10.0.0.2:1", secure=True)
    foreign = Client(address="10.0.0.3:1", secure=True, certificate=b"no certificate")
    assert list(following.lacking([proxy, names], mark)) == []
    assert list(following.lacking([proxy, names, alone, foreign], mark)) == [alone, foreign]
    assert list(following.lacking([proxy, names], mark + 1)) == [proxy, names]


def test_an_alarm_is_a_metric_and_a_line_once(tmp_path: Path) -> None:
    """Faults FT33, FT37: less than a quarter of a life is left."""
    root = authority.self_signed("cluster.local", chains.now() - dt.timedelta(days=3000))
    ca = authority.Authority(chains.intermediate(root, life=dt.timedelta(hours=10)))
    text = exposition.render(following.families(ca, chains.now().timestamp()))
    assert 'citadel_server_certificate_alarm{certificate="root"} 1' in text
    assert 'citadel_server_certificate_alarm{certificate="ca"} 0' in text
    assert "citadel_server_cert_chain_expiry_seconds 35" in text
    later = (chains.now() + dt.timedelta(hours=9)).timestamp()
    assert 'alarm{certificate="ca"} 1' in exposition.render(following.families(ca, later))
    said: list[str] = []
    files = place.FolderPlace(tmp_path, "cluster.local", chains.now)
    clock = following.Clock(now=lambda: later, wait=0)
    looking = following.Following(
        files, Signer(ca), following.Proxies(clients=tuple, hasten=lambda *_: None), clock, said.append
    )
    for _ in range(2):
        asyncio.run(looking.look())
    assert [line[:45] for line in said] == [
        "istiod: ALARM: the CA's root certificate ends",
        "istiod: ALARM: the CA's ca certificate ends a",
    ]
    state = files.state()
    assert state is not None
    assert rollover.load(rollover.dump(state)) == state

"""Where a workload's certificate comes from, as Istio's variables say it: keys, files, renewal, somebody else's SDS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from agent import metrics
from agent import settings as agent_settings
from agent.bootstrap.inputs import InputError
from agent.sds import files, identity, keys, rotation, secrets, server, settings
from istiod.ca import authority
from tests import figures
from tests.agent import pod
from tests.ca.test_renewal import service
from tests.odd_certificates import of_no_version
from tests.waiting import until
from wire import names
from wire.spiffe import Identity

SLEEP = Identity("cluster.local", "default", "sleep")
CA = authority.Authority(authority.self_signed("cluster.local", pod.now()))
HOUR = dt.timedelta(hours=1)
CROWD = 10


async def sign(csr: str, held: identity.Certificate | None = None) -> Sequence[str]:
    del held
    return CA.sign(csr, SLEEP, HOUR, pod.now())


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, keys.KeyKind()),
        ({"ECC_SIGNATURE_ALGORITHM": "ECDSA", "WORKLOAD_RSA_KEY_SIZE": "2048"}, keys.KeyKind()),
        ({"ECC_SIGNATURE_ALGORITHM": "ECDSA", "ECC_CURVE": "P384"}, keys.KeyKind(curve="P384")),
        ({"WORKLOAD_RSA_KEY_SIZE": "3072"}, keys.KeyKind(bits=3072)),
    ],
)
async def test_a_key_is_of_the_kind_that_was_asked_for(environment: dict[str, str], kind: keys.KeyKind) -> None:
    assert keys.read(environment) == kind
    found = await identity.obtain(sign, SLEEP, kind)
    public = x509.load_pem_x509_certificate(found.chain).public_key()
    if kind.bits:
        assert isinstance(public, rsa.RSAPublicKey)
        assert public.key_size == kind.bits
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert public.curve.name == {"P256": "secp256r1", "P384": "secp384r1"}[kind.curve]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ECC_SIGNATURE_ALGORITHM", "ED25519"),
        ("ECC_CURVE", "P521"),
        ("WORKLOAD_RSA_KEY_SIZE", "1024"),
        ("WORKLOAD_RSA_KEY_SIZE", "many"),
        ("SECRET_GRACE_PERIOD_RATIO", "1.5"),
        ("SECRET_GRACE_PERIOD_RATIO_JITTER", "x"),
        ("FILE_MOUNTED_CERTS", "perhaps"),
    ],
)
def test_what_cannot_be_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(InputError, match=variable):
        settings.read({variable: value})


def test_the_variables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = settings.read({})
    assert (nothing.mounted, nothing.provisioned, nothing.external) == (None, None, False)
    said = {
        "SECRET_GRACE_PERIOD_RATIO": "0.2",
        "SECRET_GRACE_PERIOD_RATIO_JITTER": "0",
        "OUTPUT_CERTS": "out",
        "PROV_CERT": "/etc/certs",
        "FILE_MOUNTED_CERTS": "true",
        "ISTIO_META_TLS_CLIENT_KEY": "/mine/key.pem",
        "USE_EXTERNAL_WORKLOAD_SDS": "true",
    }
    found = settings.read(said)
    assert rotation.rotation_delay(100.0, found.options, 0.9) == pytest.approx(80.0)
    assert found.options.output == files.Output(Path("out"))
    assert found.provisioned == Path("/etc/certs")
    assert found.mounted is not None
    assert (found.mounted.key, found.mounted.chain) == (Path("/mine/key.pem"), Path("etc/certs/cert-chain.pem"))
    assert found.external
    assert settings.read({"WORKLOAD_IDENTITY_SOCKET_FILE": "spire"}).external
    folder = tmp_path / settings.WORKLOAD_FOLDER
    folder.mkdir(parents=True)
    for name in (identity.CHAIN_FILE, identity.KEY_FILE, identity.ROOT_FILE):
        (folder / name).write_text("x")
    mounted = settings.read({}).mounted
    assert mounted is not None
    assert mounted.there


async def test_a_pod_whose_clock_is_wrong_renews_in_time_and_says_so() -> None:
    """Fault FT33: five minutes are nothing; hours are an alarm; a certificate that seems over is not asked for anew."""
    found = await identity.obtain(sign, SLEEP)
    for minutes in (-5, 0, 5):
        now = pod.now() + dt.timedelta(minutes=minutes)
        assert found.begins < now < found.expires
        assert 0.9 * 3600 < rotation.life_left(found, HOUR, now) <= 3600
        assert abs(rotation.skew(found, now)) < rotation.SKEW
    late = pod.now() + dt.timedelta(hours=2)
    assert rotation.life_left(found, HOUR, late) == 3600
    for off in (dt.timedelta(hours=-2), dt.timedelta(hours=2)):  # of a CA near its end: an hour instead of a day
        assert rotation.life_left(found, dt.timedelta(days=1), pod.now() + off) == 3600
    undated = dataclasses.replace(found, begins=found.expires - dt.timedelta(minutes=5))
    assert rotation.life_left(undated, HOUR, late) == 3600
    assert rotation.skew(found, late) < -rotation.SKEW


def client(folder: Path, port: int = 1, ttl: dt.timedelta = HOUR) -> identity.CaClient:
    (folder / "roots").write_text(CA.roots)
    return identity.CaClient(
        address=f"127.0.0.1:{port}",
        server_name="localhost",
        token=folder / "token",
        roots=identity.Roots(folder / "roots"),
        ttl=ttl,
        provisioned=folder / "provisioned",
    )


@contextlib.asynccontextmanager
async def rotating(made: rotation.Rotation) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_machine_without_a_token_begins_with_its_own_certificate_and_renews_with_each(tmp_path: Path) -> None:
    """PROV_CERT and OUTPUT_CERTS, over real TLS."""
    first = await identity.obtain(sign, SLEEP)
    files.Output(tmp_path / "provisioned").write(first.key, first.chain, first.roots)
    output, published = tmp_path / "out", secrets.Secrets()
    asked: list[str] = []

    def lives(who: Identity, address: str) -> bool:
        asked.append(f"{who} {address}")
        return True

    async with service(CA, lives) as served:
        port = served.port
        options = rotation.Options(output=files.Output(output))
        ca = client(tmp_path, port, dt.timedelta(seconds=2))
        async with rotating(rotation.Rotation(ca, SLEEP, published, metrics.Metrics("1"), options)):
            await until(lambda: len(asked) >= 3, "it renews with what it got")
    assert (output / identity.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert (output / identity.ROOT_FILE).read_text().strip() == CA.roots.strip()
    chain = x509.load_pem_x509_certificate((output / identity.CHAIN_FILE).read_bytes())
    assert chain.serial_number != x509.load_pem_x509_certificate(first.chain).serial_number


async def test_without_any_proof_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(identity.IdentityError, match=r"cannot read .*key\.pem"):
        await identity.obtain(client(tmp_path).sign, SLEEP)


async def test_mounted_files_are_served_and_followed_and_halves_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "POLL_SECONDS", 0.02)
    published = secrets.Secrets()
    first, second = [await identity.obtain(sign, SLEEP) for _ in range(2)]
    out = files.Output(tmp_path)
    mounted = files.Mounted(
        chain=tmp_path / identity.CHAIN_FILE, key=tmp_path / identity.KEY_FILE, roots=tmp_path / identity.ROOT_FILE
    )

    def served() -> bytes:
        found = published.get("default")
        return (
            b""
            if found is None
            else secret_pb2.Secret.FromString(found.body).tls_certificate.certificate_chain.inline_bytes
        )

    task = asyncio.create_task(files.FileIdentity(mounted, published, metrics.Metrics("1")).run())
    try:
        await until(lambda: "cannot use the mounted certificates" in caplog.text, "it waits", 5)
        out.write(first.key, first.chain, first.roots)
        await until(lambda: served() == first.chain, "it is served", 5)
        (tmp_path / identity.ROOT_FILE).write_text(of_no_version(first.roots.decode()))
        await until(lambda: "not a valid X509 version" in caplog.text, "roots that nobody can read", 5)
        (tmp_path / identity.ROOT_FILE).write_bytes(first.roots)
        (tmp_path / identity.KEY_FILE).write_bytes(second.key)
        await until(lambda: "is not the key of" in caplog.text, "half of a change", 5)
        assert served() == first.chain
        out.write(second.key, second.chain, second.roots)
        await until(lambda: served() == second.chain, "the other one is served", 5)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    files.Output(tmp_path / "file").write(b"", b"", b"")
    assert "cannot write OUTPUT_CERTS" in caplog.text


async def test_a_socket_is_somebody_elses_only_while_it_is_served(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert not await server.served(str(path))
    met = asyncio.Event()

    def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        met.set()

    other = await asyncio.start_unix_server(meet, str(path))
    assert await server.served(str(path))
    await met.wait()
    other.close()
    await other.wait_closed()
    assert not await server.served(str(path))


async def test_an_absent_ca_is_asked_again_and_again_and_a_quarter_of_life_is_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault FT37, scaled down to a life of 6 s, for a crowd of agents by seeded chance.

    The CA goes just before the first of them renews, and comes back half a life later, with an eighth of it left.
    """
    monkeypatch.setattr(rotation, "BACK_OFF", (0.05, 0.2))
    monkeypatch.setattr(rotation, "ROOTS_POLL_SECONDS", 0.05)
    monkeypatch.setattr(rotation, "_CHANCE", random.Random(37))
    down, life, loop = asyncio.Event(), dt.timedelta(seconds=6), asyncio.get_running_loop()
    issued: dict[str, list[dt.datetime]] = {}
    tried: dict[str, list[float]] = {}
    arrived, complete = set[str](), asyncio.Event()

    class Ca(identity.CaClient):
        async def sign(self, csr: str, held: identity.Certificate | None = None) -> Sequence[str]:
            del held
            arrived.add(self.address)
            if len(arrived) == CROWD:  # at a whole second, as certificates end at one
                loop.call_later(1 - time.time() % 1, complete.set)
            await complete.wait()  # all begin at one moment, however long a busy machine takes to start them
            if down.is_set():
                tried.setdefault(self.address, []).append(loop.time())
                raise identity.IdentityError("the CA is away")
            issued.setdefault(self.address, []).append(pod.now())
            return CA.sign(csr, SLEEP, self.ttl, pod.now())

    (tmp_path / "roots").write_text(CA.roots)
    roots, counts = tmp_path / "roots", [metrics.Metrics("1") for _ in range(CROWD)]
    async with contextlib.AsyncExitStack() as stack:
        for number, counted in enumerate(counts):
            ca = Ca(address=str(number), server_name="", token=tmp_path, roots=identity.Roots(roots), ttl=life)
            await stack.enter_async_context(rotating(rotation.Rotation(ca, SLEEP, secrets.Secrets(), counted)))
        await until(lambda: len(issued) == CROWD, "a first certificate each")
        first = loop.time() - (pod.now() - min(each[0] for each in issued.values())).total_seconds()
        loop.call_at(first + 0.38 * 6, down.set)
        loop.call_at(first + 0.88 * 6, down.clear)
        await until(lambda: all(counted.alarm for counted in counts), "the alarms", 10)
        assert down.is_set()
        assert all("istio_agent_cert_expiry_alarm 1" in counted.text() for counted in counts)
        assert caplog.text.count("less than a quarter of the certificate's life is left") == CROWD
        await until(lambda: all(len(each) == 2 for each in issued.values()), "the next certificates", 5)
        assert all(second < first + life for first, second in issued.values()), "one has ended"
        await until(lambda: not any(counted.alarm for counted in counts), "the alarms are over", 5)
    assert all(counted.refused > 3 for counted in counts)
    pauses = {round(after - before, 3) for each in tried.values() for before, after in itertools.pairwise(each)}
    assert len(pauses) > CROWD, "they come at times of their own"
    figures.fault("FT37", f"0 of {CROWD} certificates ended, with a life of 6 s; {sum(map(len, tried.values()))} tries")


@pytest.mark.parametrize("life", [20.0, 180.0, 1200.0, 3600.0, 86400.0])
def test_no_certificate_ends_whenever_the_ca_goes_for_half_of_its_life(life: float) -> None:
    """Fault FT37: in the worst case it goes when the last one renews, who asks again just before it is back."""
    latest = rotation.rotation_delay(life, rotation.Options(), 0.0)
    asked = latest + life / 2 + max(rotation.back_off(count, 1.0, life) for count in range(1, 40))
    assert 0.399 * life <= rotation.rotation_delay(life, rotation.Options(), 1.0) < latest
    assert asked < 0.995 * life
    if life >= 1200:
        assert asked + identity.CALL_SECONDS < life, "it may even leave the last call without an answer"
    assert rotation.back_off(9, 1.0) == 1.25 * rotation.BACK_OFF[1], "without a certificate there is no hurry"


async def test_a_token_that_the_kubelet_rotates_is_read_for_each_request(tmp_path: Path) -> None:
    """Fault FT39."""
    async with pod.istiod() as control:
        found = identity.CaClient(
            address=f"127.0.0.1:{control.ca_port}",
            server_name="localhost",
            token=tmp_path / "token",
            roots=identity.Roots(tmp_path / "roots"),
        )
        (tmp_path / "roots").write_text(control.ca.roots)
        for _ in range(3):
            (tmp_path / "token").write_text("expired")
            with pytest.raises(identity.IdentityError, match="UNAUTHENTICATED"):
                await identity.obtain(found.sign, SLEEP)
            pod.write_token(tmp_path / "token", control)
            assert await identity.obtain(found.sign, SLEEP)


def test_a_socket_for_the_keys_of_gateways_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert agent_settings.gather(agent_settings.Flags(), {}).inputs.credential_socket == ""
    place = tmp_path / names.CREDENTIAL_SOCKET
    place.parent.mkdir(parents=True)
    place.touch()
    assert agent_settings.gather(agent_settings.Flags(), {}).inputs.credential_socket == ""
    place.unlink()
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(names.CREDENTIAL_SOCKET)
        assert agent_settings.gather(agent_settings.Flags(), {}).inputs.credential_socket == names.CREDENTIAL_SOCKET

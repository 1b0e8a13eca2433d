"""SDS: what a stream is sent and when, over a real unix socket, and the identity behind it."""

import asyncio
import contextlib
import datetime as dt
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from agent import metrics
from agent.sds import identity, rotation, secrets, server, session
from istiod.ca import authority
from tests.agent import pod
from tests.odd_certificates import of_no_version
from tests.waiting import until
from wire import names
from wire.spiffe import Identity

SLEEP = Identity("cluster.local", "default", "sleep")
PREFIX = "/envoy.service.secret.v3.SecretDiscoveryService/"


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[secrets.Secrets, grpc.aio.Channel]]:
    published = secrets.Secrets()
    path = folder / "socket"
    path.write_text("left over by an earlier run")
    running = server.SdsServer(published, str(path))
    await running.start()
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        yield published, channel
    await running.stop()


def world(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(
        PREFIX + "StreamSecrets",
        request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
    )()


def delta(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(
        PREFIX + "DeltaSecrets",
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )()


async def test_a_stream_waits_for_the_secret_and_gets_each_new_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as (published, channel):
        call = world(channel)
        await call.write(discovery_pb2.DiscoveryRequest(resource_names=["default"], type_url=names.SECRET))
        waiting = asyncio.create_task(call.read())
        published.publish(secrets.roots("ROOTCA", b"not what was asked for"))
        published.publish(secrets.certificate("default", b"chain", b"key"))
        first = await asyncio.wait_for(waiting, 5)
        secret = secret_pb2.Secret.FromString(first.resources[0].value)
        assert (secret.name, secret.tls_certificate.private_key.inline_bytes) == ("default", b"key")
        acknowledgement = discovery_pb2.DiscoveryRequest(
            resource_names=["default"], version_info=first.version_info, response_nonce=first.nonce
        )
        await call.write(acknowledgement)
        published.publish(secrets.certificate("default", b"chain 2", b"key 2"))
        second = await asyncio.wait_for(call.read(), 5)
        assert (
            secret_pb2.Secret.FromString(second.resources[0].value).tls_certificate.private_key.inline_bytes == b"key 2"
        )
        assert second.nonce != first.nonce
        await call.done_writing()
        assert await asyncio.wait_for(call.read(), 5) is grpc.aio.EOF


async def test_a_delta_stream_gets_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as (published, channel):
        published.publish(secrets.roots("ROOTCA", b"roots"))
        call = delta(channel)
        await call.write(discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=["ROOTCA"]))
        answer = await asyncio.wait_for(call.read(), 5)
        assert [resource.name for resource in answer.resources] == ["ROOTCA"]
        secret = secret_pb2.Secret.FromString(answer.resources[0].resource.value)
        assert secret.validation_context.trusted_ca.inline_bytes == b"roots"


async def test_a_refusal_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as (_, channel):
        call = world(channel)
        request = discovery_pb2.DiscoveryRequest(resource_names=["default"])
        request.error_detail.code = 13
        request.error_detail.message = "bad certificate"
        await call.write(request)
        await until(lambda: "Envoy refused a secret: bad certificate" in caplog.text, "the refusal is logged", 5)


def test_only_the_proxys_user_and_group_may_open_the_socket(tmp_path: Path) -> None:
    """Row SEC29 of the hostile inputs."""

    async def mode() -> int:
        async with serving(tmp_path):
            return (tmp_path / "socket").stat().st_mode & 0o777

    before = os.umask(0o022)
    try:
        assert asyncio.run(mode()) == 0o660
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


async def test_files_are_secrets_too_and_their_changes_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_FILE_POLL_SECONDS", 0.05)
    root, chain, key = (tmp_path / name for name in ("root.pem", "chain.pem", "key.pem"))
    async with serving(tmp_path) as (_, channel):
        calls = []
        for name in (f"file-root:{root}", f"file-cert:{chain}~{key}"):
            call = world(channel)
            await call.write(discovery_pb2.DiscoveryRequest(resource_names=[name]))
            calls.append(call)
        for path in (root, chain, key):
            path.write_text("")
            path.write_text(path.name)
        answers = [await asyncio.wait_for(call.read(), 5) for call in calls]
        found = [secret_pb2.Secret.FromString(answer.resources[0].value) for answer in answers]
        assert found[0].validation_context.trusted_ca.inline_bytes == b"root.pem"
        assert found[1].tls_certificate.certificate_chain.inline_bytes == b"chain.pem"
        root.write_text("changed")
        again = secret_pb2.Secret.FromString((await asyncio.wait_for(calls[0].read(), 5)).resources[0].value)
        assert again.validation_context.trusted_ca.inline_bytes == b"changed"


async def test_the_systems_roots_are_those_of_the_first_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.pem"
    monkeypatch.setattr(secrets, "_SYSTEM_FILES", (str(tmp_path / "missing.pem"), str(there)))
    known = secrets.Secrets()
    assert known.get("file-root:system") is None
    there.write_text("system")
    found = known.get("file-root:system")
    assert found is not None
    secret = secret_pb2.Secret.FromString(found.body)
    assert (secret.name, secret.validation_context.trusted_ca.inline_bytes) == ("file-root:system", b"system")


async def test_what_is_published_between_looking_and_waiting_is_not_missed() -> None:
    published = secrets.Secrets()
    seen = published.generation
    published.publish(secrets.roots("ROOTCA", b"roots"))
    await asyncio.wait_for(published.changed(seen, frozenset()), 1)


def secret(name: str, version: str = "1") -> secrets.Secret:
    return secrets.Secret(name=name, version=version, body=b"")


def test_an_answer_to_an_older_response_changes_nothing() -> None:
    one = session.Session()
    one.replace(["a"], "")
    one.sent([secret("a")])
    one.sent([secret("a", "2")])
    one.replace(["b"], "1")
    assert one.wanted == {"a"}
    one.replace(["b"], "2")
    assert (one.wanted, one.held) == ({"b"}, {})


def test_a_delta_client_that_comes_back_is_sent_only_what_changed() -> None:
    one = session.Session()
    one.change(["a", "b"], [], {"a": "1", "b": "0"})
    assert [found.name for found in one.due(secret)] == ["b"]
    one.sent(one.due(secret))
    assert one.due(secret) == ()
    one.change(["a"], ["b"], {})
    assert [found.name for found in one.due(secret)] == ["a"]
    assert one.wanted == {"a"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12))
def test_whatever_a_client_does_it_ends_up_with_what_it_wants(steps: list[tuple[str, bool]]) -> None:
    one = session.Session()
    wanted: set[str] = set()
    has: dict[str, str] = {}
    for name, subscribe in steps:
        one.change([name] if subscribe else [], [] if subscribe else [name], {})
        wanted = wanted | {name} if subscribe else wanted - {name}
        has = {key: version for key, version in has.items() if key in wanted}
        due = one.due(secret)
        one.sent(due)
        has |= {found.name: found.version for found in due}
        assert wanted <= has.keys()


@given(st.floats(0, 1), st.integers(3, 90 * 86_400))
def test_rotation_comes_a_little_before_half_life(chance: float, life: int) -> None:
    delay = rotation.rotation_delay(life, rotation.Options(), chance)
    assert 0.399 * life <= delay <= max(0.481 * life, rotation.LEAST)


@given(st.floats(0, 1), st.floats(0, 90 * 86_400), st.floats(0, 1))
def test_no_life_and_no_ratio_makes_an_agent_ask_without_a_pause(chance: float, life: float, ratio: float) -> None:
    assert rotation.rotation_delay(life, rotation.Options(ratio=ratio), chance) >= rotation.LEAST >= 1
    assert rotation.rotation_delay(life, rotation.Options(ratio=1.0, jitter=0.0), chance) == rotation.LEAST


@given(st.integers(1, 500), st.floats(0, 1))
def test_back_off_grows_to_a_bound(failures: int, chance: float) -> None:
    assert 0.37 <= rotation.back_off(failures, chance) <= 12.5


@pytest.fixture(scope="module")
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", pod.now()))


async def test_a_fresh_key_is_certified_and_stays_here(ca: authority.Authority) -> None:
    """Row SEC29 of the hostile inputs."""
    seen = []

    async def sign(csr: str) -> Sequence[str]:
        seen.append(csr)
        return ca.sign(csr, SLEEP, dt.timedelta(hours=1), pod.now())

    found = await identity.obtain(sign, SLEEP)
    assert "PRIVATE" not in seen[0]
    assert found.roots.decode() == ca.roots
    assert len(x509.load_pem_x509_certificates(found.chain)) == 1
    assert found.key.startswith(b"-----BEGIN PRIVATE KEY-----")


async def test_answers_that_are_no_certificate_of_ours_are_refused(ca: authority.Authority) -> None:
    async def garbage(_: str) -> Sequence[str]:
        return ("no", "certificates")

    async def nothing(_: str) -> Sequence[str]:
        return ()

    async def foreign(_: str) -> Sequence[str]:
        material = ca.serving(("localhost",), pod.now())
        return material.certificate.decode(), ca.roots

    for sign, reason in (
        (garbage, "no certificate chain"),
        (nothing, "no certificate chain"),
        (foreign, "another key"),
    ):
        with pytest.raises(identity.IdentityError, match=reason):
            await identity.obtain(sign, SLEEP)


async def test_rotation_survives_an_absent_ca_and_a_missing_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rotation, "BACK_OFF", (0.05, 0.05))
    monkeypatch.setattr(rotation, "ROOTS_POLL_SECONDS", 0.05)
    published = secrets.Secrets()
    async with pod.istiod() as control:
        client = identity.CaClient(
            address=f"127.0.0.1:{control.ca_port}",
            server_name="istiod.istio-system.svc",
            token=tmp_path / "token",
            roots=identity.Roots(tmp_path / "roots"),
        )
        task = asyncio.create_task(rotation.Rotation(client, SLEEP, published, metrics.Metrics("1")).run())

        async def complained(of: str, seconds: float) -> None:
            await until(lambda: of in caplog.text, of, seconds)

        await complained("cannot read", 5)
        (tmp_path / "roots").write_text(control.ca.roots)
        (tmp_path / "token").write_text("forged")
        await complained("UNAUTHENTICATED", 10)
        assert published.get("default") is None
        pod.write_token(tmp_path / "token", control)

        def certified() -> bool:
            return published.get("default") is not None and published.get("ROOTCA") is not None

        await until(certified, "a certificate and its roots", 10)
        another = authority.self_signed("next", pod.now()).roots

        def trusted() -> bool:
            roots = published.get("ROOTCA")
            return roots is not None and another in roots.body and control.ca.roots.encode() in roots.body

        (tmp_path / "roots").write_text("half a file")
        await complained("keeping the roots known so far", 5)
        (tmp_path / "roots").write_bytes(another)
        await until(trusted, "both roots", 5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "text", ["no PEM", of_no_version(authority.self_signed("a", dt.datetime.now(dt.UTC)).certificate.decode())]
)
async def test_roots_that_cannot_be_read_are_a_failure_like_any_other(tmp_path: Path, text: str) -> None:
    (tmp_path / "roots").write_text(text)
    client = identity.CaClient(address="", server_name="", token=tmp_path, roots=identity.Roots(tmp_path / "roots"))
    with pytest.raises(identity.IdentityError, match="cannot use the roots"):
        rotation.Rotation(client, SLEEP, secrets.Secrets(), metrics.Metrics("1"))._roots(b"")

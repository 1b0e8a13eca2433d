"""Who may renew a certificate by showing it, over real TLS, and who may not."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, renewal, server, serving, tokens
from istiod.grpcserver.server import Server
from istiod.grpcserver.status import RpcError
from istiod.grpcserver.stream import Client
from protos import ca_pb2
from tests.ca import chains
from tests.ca.test_server import bearer, request
from wire.spiffe import Identity

SLEEP, OTHER = Identity("cluster.local", "default", "sleep"), Identity("elsewhere", "default", "sleep")
KEY = ec.generate_private_key(ec.SECP256R1())
HOUR = dt.timedelta(hours=1)


@dataclass
class Held:
    """A workload's key and chain."""

    key: bytes
    chain: bytes


def held(ca: authority.Authority, identity: Identity = SLEEP, life: dt.timedelta = HOUR) -> Held:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return Held(authority.private_pem(key), ca.sign(csr, identity, life, chains.now())[0].encode())


@dataclass
class Service:
    """A certificate service; called, it gives a channel of a client that shows this, or nothing."""

    roots: bytes
    port: int
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def __call__(self, shown: Held | None) -> grpc.aio.Channel:
        pair = () if shown is None else (shown.key, shown.chain)
        options = [("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(self.roots, *pair)
        self.channels.append(grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options))
        return self.channels[-1]


@contextlib.asynccontextmanager
async def service(ca: authority.Authority, lives: renewal.Lives) -> AsyncIterator[Service]:
    verifier = tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", chains.now)
    renewals = renewal.Renewals(lives, lambda: "cluster.local")
    made = server.CertificateService(ca, verifier, chains.now, None, renewals)
    running = Server(made.methods())
    port = running.listen("127.0.0.1:0", serving.ServingCertificate(ca, chains.now).context)
    found = Service(ca.roots.encode(), port)
    try:
        yield found
    finally:
        for each in found.channels:
            await each.close()
        await running.stop(0)


async def ask(
    channel: grpc.aio.Channel, seconds: int = 0, metadata: tuple[tuple[str, str], ...] = ()
) -> x509.Certificate:
    create = channel.unary_unary(
        f"/{server.SERVICE}/{server.METHOD}",
        request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
        response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
    )
    answer = await create(request(seconds), metadata=metadata)
    return x509.load_pem_x509_certificate(answer.cert_chain[0].encode())


@pytest.fixture(scope="module")
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", chains.now()))


async def test_a_known_workload_renews_its_own_certificate_for_no_longer_than_before(ca: authority.Authority) -> None:
    asked = []

    def lives(who: Identity, address: str) -> bool:
        asked.append((str(who), address))
        return True

    async with service(ca, lives) as channel:
        renewed = await ask(channel(held(ca)), 24 * 3600)
    assert asked == [(str(SLEEP), "127.0.0.1")]
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(SLEEP)]
    assert renewed.not_valid_after_utc - chains.now() <= HOUR


async def test_who_is_not_known_is_told_and_a_token_still_works(ca: authority.Authority) -> None:
    token = bearer(tokens.mint(KEY, tokens.Account(namespace="default", service_account="sleep"), chains.now()))
    async with service(ca, lambda *_: False) as channel:
        shown = channel(held(ca))
        with pytest.raises(
            grpc.aio.AioRpcError, match=r"no workload of spiffe://cluster\.local/ns/default/sa/sleep"
        ) as no:
            await ask(shown)
        assert no.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert await ask(shown, metadata=token)
        with pytest.raises(grpc.aio.AioRpcError, match="proves no identity") as forged:
            await ask(shown, metadata=bearer("forged"))  # whoever brings a token is judged by it
        assert forged.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_another_mesh_another_root_and_no_certificate_are_nobody(ca: authority.Authority) -> None:
    """Hostile input SEC14, SEC19."""
    foreign = authority.Authority(authority.self_signed("cluster.local", chains.now()))
    async with service(ca, lambda *_: True) as channel:
        for shown, code in (
            (held(ca, OTHER), grpc.StatusCode.UNAUTHENTICATED),
            (None, grpc.StatusCode.UNAUTHENTICATED),
            (held(foreign), grpc.StatusCode.UNAVAILABLE),  # the handshake fails
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(channel(shown))
            assert refused.value.code() == code


async def test_one_certificate_buys_a_few_others_only(ca: authority.Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "MOST", 2)
    async with service(ca, lambda *_: True) as channel:
        shown = channel(held(ca))
        for _ in range(2):
            await ask(shown)
        with pytest.raises(grpc.aio.AioRpcError, match="too often") as refused:
            await ask(shown)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await ask(channel(held(ca)))


def test_an_expired_certificate_on_an_old_connection_and_garbage_are_refused(
    ca: authority.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "KEPT", 1)
    renewals = renewal.Renewals(lambda *_: True, lambda: "cluster.local")
    for _ in range(3):
        der = x509.load_pem_x509_certificate(held(ca).chain).public_bytes(serialization.Encoding.DER)
        client = Client(address="[::1]:4", secure=True, certificate=der)
        assert renewals.allow(client, chains.now())[0] == SLEEP
    for certificate, moment in ((der, chains.now() + 2 * HOUR), (b"garbage", chains.now())):
        with pytest.raises(RpcError):
            renewals.allow(Client(address="[::1]:4", secure=True, certificate=certificate), moment)


async def test_a_certificate_of_a_minute_does_not_become_one_of_a_day(
    ca: authority.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another issuer below the same root need not date back as ours does."""
    with monkeypatch.context() as other:
        other.setattr(authority, "CLOCK_SKEW", dt.timedelta())
        short = held(ca, life=dt.timedelta(minutes=1))
    async with service(ca, lambda *_: True) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="too short") as refused:
            await ask(channel(short))
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED

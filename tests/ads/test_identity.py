"""Who a proxy is: by its certificate, or by its token; over real TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import grpc.aio
import hpack
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.service.discovery.v3 import ads_pb2_grpc

from istiod.ads.auth import Authenticator
from istiod.ads.connection import Settings
from istiod.ads.server import AdsService
from istiod.config.protocols import UnavailableError
from istiod.config.proxy import Proxy
from istiod.debug.counts import Counts
from istiod.grpcserver import frames, tls
from istiod.grpcserver.frames import ErrorCode
from istiod.grpcserver.stream import Stream
from tests.ads import made
from tests.ads.serving import Running
from tests.ads.test_server import DELTA_METHOD, Served, refusal, request
from tests.grpcserver.wire import HEAD, parse
from wire import exposition, names, spiffe


@dataclass
class Authority:
    """A CA for a test."""

    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate

    def issue(self, *, uri: str = "", dns: str = "", life: dt.timedelta = dt.timedelta(hours=1)) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        names_of = [*([x509.UniformResourceIdentifier(uri)] if uri else []), *([x509.DNSName(dns)] if dns else [])]
        certificate = _certificate(key, x509.Name([]), self.root.subject, life).add_extension(
            x509.SubjectAlternativeName(names_of), critical=True
        )
        return pem_key(key), certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    @property
    def roots(self) -> bytes:
        return self.root.public_bytes(serialization.Encoding.PEM)

    def client(self, uri: str, **kwargs: dt.timedelta) -> grpc.ChannelCredentials:
        key, chain = self.issue(uri=uri, **kwargs)
        return grpc.ssl_channel_credentials(self.roots, key, chain)


def _certificate(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, life: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + life)
    )


def pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def authority() -> Authority:
    return another_authority()


def another_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test root")])
    builder = _certificate(key, subject, subject, dt.timedelta(hours=2))
    root = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(key, root.sign(key, hashes.SHA256()))


@pytest_asyncio.fixture
async def secure(authority: Authority) -> AsyncIterator[Served]:
    key, chain = authority.issue(dns="localhost")
    context = tls.context(key, chain, authority.roots)
    fixed = made.Fixed(made.targets(made.cluster("c1")))
    service = AdsService(fixed, time.monotonic, authenticator=Authenticator(frozenset(("cluster.local",))))
    running = Running(service, context=lambda: context, verifier=Verifier())
    yield Served(service, running, fixed)
    await running.stop()


class Verifier:
    """Knows two tokens, and one that it can't judge."""

    async def verify(self, token: str) -> spiffe.Identity | None:
        if token == "broken":
            raise ConnectionError("the API server is away")
        if token == "unanswered":
            raise UnavailableError("tokens cannot be reviewed now")
        known = {"good": "cluster.local", "foreign": "elsewhere"}
        return spiffe.Identity(known[token], "demo", "app") if token in known else None


async def admitted(served: Served, credentials: grpc.ChannelCredentials, **metadata: str) -> Proxy:
    async with served.stream(credentials) as call:
        await call.write(request(**metadata))
        await call.read()
        return served.configuration.proxies[-1]


async def test_a_secret_that_is_not_for_a_proxy_is_counted_and_not_answered(authority: Authority) -> None:
    """SEC63: whose account may not read Secrets has none in its target, whatever it asks for."""
    key, chain = authority.issue(dns="localhost")
    context = tls.context(key, chain, authority.roots)
    counts = Counts()
    fixed = made.Fixed(made.targets(made.cluster("c1")))
    service = AdsService(fixed, time.monotonic, settings=Settings(on_secretless=counts.lack_secret))
    running = Running(service, context=lambda: context, verifier=Verifier())
    try:
        async with Served(service, running, fixed).stream(
            authority.client("spiffe://cluster.local/ns/demo/sa/app")
        ) as call:
            asked = request(names.SECRET)
            asked.resource_names_subscribe.append("kubernetes://web-cert")
            await call.write(asked)
            await call.write(request(names.CLUSTER))
            assert (await call.read()).type_url == names.CLUSTER
    finally:
        await running.stop()
    text = exposition.render(counts.families())
    assert "pilot_sds_certificate_errors_total 1\n" in text


async def test_the_certificate_decides_who_a_proxy_is(secure: Served, authority: Authority) -> None:
    """Row SEC5 of the hostile inputs."""
    credentials = authority.client("spiffe://cluster.local/ns/demo/sa/app")
    proxy = await admitted(secure, credentials, SERVICE_ACCOUNT="app")
    assert str(proxy.peer.identity) == "spiffe://cluster.local/ns/demo/sa/app"
    unclaimed = await admitted(secure, credentials)
    assert unclaimed.node.service_account == "app", "what is not claimed is filled from the proof"


@pytest.mark.parametrize("claim", [{"SERVICE_ACCOUNT": "other"}, {"NAMESPACE": "other"}])
async def test_a_claim_against_the_certificate_is_refused_with_both_named(
    secure: Served, authority: Authority, claim: dict[str, str]
) -> None:
    """Rows SEC2, SEC3 of the hostile inputs."""
    async with secure.stream(authority.client("spiffe://cluster.local/ns/demo/sa/app")) as call:
        await call.write(request(**claim))
        code, details = await refusal(call)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "spiffe://cluster.local/ns/demo/sa/app" in details
    assert "other" in details
    assert not secure.configuration.proxies


@pytest.mark.parametrize("uri", ["", "spiffe://elsewhere/ns/demo/sa/app", "spiffe://cluster.local/workload/app"])
async def test_an_identity_of_another_mesh_is_none(secure: Served, authority: Authority, uri: str) -> None:
    """Row SEC19 of the hostile inputs."""
    key, chain = authority.issue(uri=uri, dns="" if uri else "app.demo")
    async with secure.stream(grpc.ssl_channel_credentials(authority.roots, key, chain)) as call:
        assert (await refusal(call))[0] is grpc.StatusCode.UNAUTHENTICATED
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Stream)], "a timer holds it"


async def test_a_client_that_resets_its_stream_at_once_is_not_asked_for(secure: Served, authority: Authority) -> None:
    trust = ssl.create_default_context(cadata=authority.roots.decode())
    trust.set_alpn_protocols(["h2"])
    fields = hpack.Encoder().encode({**dict(HEAD), ":path": DELTA_METHOD})
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, fields)
    reader, writer = await asyncio.open_connection("localhost", secure.port, ssl=trust)
    writer.write(b"".join((frames.PREFACE, frames.settings({}), head, frames.reset(1, ErrorCode.CANCEL))))
    answered = b""
    while not any(frame.kind == frames.SETTINGS and frame.flags for frame in parse(answered)[0]):
        answered += await asyncio.wait_for(reader.read(1_000), 10)
    writer.close()
    await writer.wait_closed()
    gc.collect()  # a coroutine that nobody awaits says so when it goes, which is an error here


async def test_a_certificate_of_another_root_is_no_connection(secure: Served, authority: Authority) -> None:
    stranger = another_authority()
    key, chain = stranger.issue(uri="spiffe://cluster.local/ns/demo/sa/app")
    async with secure.stream(grpc.ssl_channel_credentials(authority.roots, key, chain)) as call:
        assert (await refusal(call))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("token", "code", "details"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED, "neither a client certificate nor a bearer token"),
        ("Basic good", grpc.StatusCode.UNAUTHENTICATED, "neither a client certificate nor a bearer token"),
        ("Bearer forged", grpc.StatusCode.UNAUTHENTICATED, "proves no identity"),
        ("Bearer foreign", grpc.StatusCode.UNAUTHENTICATED, "of another trust domain"),
        ("Bearer unanswered", grpc.StatusCode.UNAVAILABLE, "tokens cannot be reviewed now"),
        ("Bearer broken", grpc.StatusCode.UNAVAILABLE, "could not be judged"),
    ],
)
async def test_without_a_certificate_a_token_must_prove_who_it_is(
    secure: Served, authority: Authority, token: str | None, code: grpc.StatusCode, details: str
) -> None:
    """Row SEC1 of the hostile inputs."""
    async with secure.channel(grpc.ssl_channel_credentials(authority.roots)) as channel:
        metadata = (("authorization", token),) if token else ()
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources(metadata=metadata)
        found, said = await refusal(call)
        assert found is code
        assert details in said


async def test_a_client_with_a_token_is_served_what_it_said_meanwhile(secure: Served, authority: Authority) -> None:
    async with secure.channel(grpc.ssl_channel_credentials(authority.roots)) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.DeltaAggregatedResources(metadata=(("authorization", "Bearer good"),))
        await call.write(request())
        assert (await call.read()).type_url == names.CLUSTER
        assert str(secure.configuration.proxies[-1].peer.identity) == "spiffe://cluster.local/ns/demo/sa/app"
        claims_more = stub.DeltaAggregatedResources(metadata=(("authorization", "Bearer good"),))
        await claims_more.write(request(SERVICE_ACCOUNT="other"))
        assert (await refusal(claims_more))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_a_stream_ends_with_its_certificate(secure: Served, authority: Authority) -> None:
    credentials = authority.client("spiffe://cluster.local/ns/demo/sa/app", life=dt.timedelta(seconds=2))
    async with secure.stream(credentials) as call:
        await call.write(request())
        await call.read()
        assert (await refusal(call))[0] is grpc.StatusCode.UNAUTHENTICATED

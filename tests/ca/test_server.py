"""CreateCertificate over real TLS on loopback."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, server, serving, tokens
from istiod.ca.counts import Counts
from istiod.grpcserver.server import Server
from protos import ca_pb2
from tests.waiting import until
from wire import exposition

KEY = ec.generate_private_key(ec.SECP256R1())
SLEEP = tokens.Account(namespace="default", service_account="sleep", pod="sleep-1")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", now()))


Create = Callable[..., Awaitable[ca_pb2.IstioCertificateResponse]]
"""The call as a client makes it."""


@contextlib.asynccontextmanager
async def stub(
    ca: authority.Authority, certificate: serving.ServingCertificate, counts: Counts | None = None
) -> AsyncIterator[Create]:
    verifier = tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", now)
    service = server.CertificateService(ca, verifier, now, counts)
    running = Server(service.methods())
    port = running.listen("127.0.0.1:0", certificate.context)
    channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca.roots.encode()))
    try:
        yield channel.unary_unary(
            f"/{server.SERVICE}/{server.METHOD}",
            request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
            response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
        )
    finally:
        await channel.close()
        await running.stop(0)


def request(seconds: int = 0) -> ca_pb2.IstioCertificateRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    return ca_pb2.IstioCertificateRequest(csr=pem, validity_duration=seconds)


def weak() -> ca_pb2.IstioCertificateRequest:
    """One with a key on a curve that is too small."""
    small = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = small.sign(ec.generate_private_key(ec.SECP224R1()), hashes.SHA256())
    return ca_pb2.IstioCertificateRequest(csr=signed.public_bytes(serialization.Encoding.PEM).decode())


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def test_a_token_buys_a_certificate_for_its_own_identity(ca: authority.Authority) -> None:
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        answer = await create(request(3600), metadata=bearer(tokens.mint(KEY, SLEEP, now())))
    certificate = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local/ns/default/sa/sleep"]
    assert answer.cert_chain[-1] == ca.roots


async def test_refusals_have_a_code_and_a_reason(ca: authority.Authority) -> None:
    """Rows SEC12, SEC13 of the hostile inputs."""
    token = tokens.mint(KEY, SLEEP, now())
    cases = [
        (request(), (), grpc.StatusCode.UNAUTHENTICATED, "no bearer token"),
        (request(), (("authorization", f"Basic {token}"),), grpc.StatusCode.UNAUTHENTICATED, "no bearer token"),
        (request(), bearer(token) + bearer(token), grpc.StatusCode.UNAUTHENTICATED, "no bearer token"),
        (request(), bearer("forged"), grpc.StatusCode.UNAUTHENTICATED, "proves no identity"),
        (ca_pb2.IstioCertificateRequest(csr="x"), bearer(token), grpc.StatusCode.INVALID_ARGUMENT, "cannot be read"),
        (request(-1), bearer(token), grpc.StatusCode.INVALID_ARGUMENT, "negative"),
        (weak(), bearer(token), grpc.StatusCode.INVALID_ARGUMENT, "P-256 or P-384, not secp224r1"),
    ]
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        for message, metadata, code, reason in cases:
            with pytest.raises(grpc.aio.AioRpcError, match=reason) as caught:
                await create(message, metadata=metadata)
            assert caught.value.code() == code


@pytest.mark.parametrize("asked", [10 * 365 * 86_400, 2**62, 2**63 - 1])
async def test_no_certificate_lasts_longer_than_any_may(ca: authority.Authority, asked: int) -> None:
    """Row SEC13 of the hostile inputs."""
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        answer = await create(request(asked), metadata=bearer(tokens.mint(KEY, SLEEP, now())))
    ends = x509.load_pem_x509_certificate(answer.cert_chain[0].encode()).not_valid_after_utc
    assert abs(ends - now() - authority.MAX_TTL) < dt.timedelta(minutes=1)


async def test_the_serving_certificate_renews_while_serving(ca: authority.Authority) -> None:
    certificate = serving.ServingCertificate(ca, now, ttl=dt.timedelta(seconds=0.2))
    first = certificate.material.certificate
    renewing = asyncio.create_task(certificate.renew_forever())
    await until(lambda: certificate.material.certificate != first, "another certificate", 5)
    renewing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await renewing
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        assert (await create(request(), metadata=bearer(tokens.mint(KEY, SLEEP, now())))).cert_chain


async def test_what_becomes_of_requests_is_counted_under_istios_names(ca: authority.Authority) -> None:
    token = bearer(tokens.mint(KEY, SLEEP, now()))
    refused = [
        (request(), ()),
        (request(), bearer("forged")),
        (ca_pb2.IstioCertificateRequest(csr="x"), token),
        (weak(), token),
        (request(-1), token),
    ]
    counts = Counts()
    async with stub(ca, serving.ServingCertificate(ca, now), counts) as create:
        await create(request(), metadata=token)
        for message, metadata in refused:
            with pytest.raises(grpc.aio.AioRpcError):
                await create(message, metadata=metadata)
    lines = [line for line in exposition.render(counts.families()).splitlines() if not line.startswith("#")]
    assert lines == [
        "citadel_server_csr_count 6",
        "citadel_server_authentication_failure_count 2",
        "citadel_server_csr_parsing_err_count 1",
        "citadel_server_id_extraction_err_count 0",
        "citadel_server_success_cert_issuance_count 1",
        'citadel_server_csr_sign_err_count{error="CSR_ERROR"} 2',
        'citadel_server_csr_sign_err_count{error="TTL_ERROR"} 1',
    ]

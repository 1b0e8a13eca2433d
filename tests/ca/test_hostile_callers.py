"""Who asks for a certificate that is not theirs, or with a request made to do harm (SEC11-SEC16): over real TLS."""

from __future__ import annotations

import json
import math
import time

import grpc
import grpc.aio
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from istiod.ca import authority, server, serving, tokens
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from protos import ca_pb2
from tests.ca.test_server import KEY, SLEEP, bearer, now, request, stub
from tests.ca.test_tokens import KEY as SIGNER
from wire.spiffe import Identity

MINE = "spiffe://cluster.local/ns/default/sa/sleep"
OTHERS = "spiffe://cluster.local/ns/istio-system/sa/istiod"
PROMPT = 0.25
"""Seconds of CPU for a refusal: 5 ms on a quiet machine, and room for a busy one."""


@pytest.fixture(scope="module")
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", now()))


def huge() -> str:
    """A request with an RSA key of 14,364 bits, well signed; of Mersenne's primes, as others take long to find."""
    p, q, e = 2**9941 - 1, 2**4423 - 1, 65537
    d = pow(e, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM).decode()


def named(count: int) -> str:
    """A request that asks for the control plane's name, and for many others; too long where they are very many."""
    names = [x509.UniformResourceIdentifier(OTHERS), *(x509.DNSName(f"n{number}.x") for number in range(count))]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def uris(chain: str) -> list[str]:
    certificate = x509.load_pem_x509_certificate(chain.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == 1
    return names.get_values_for_type(x509.UniformResourceIdentifier)


async def test_who_asks_for_anothers_certificate_gets_none_and_is_written_down(
    ca: authority.Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """SEC16."""
    claimed = ca_pb2.IstioCertificateRequest(csr=named(1))
    claimed.metadata.update({"ImpersonatedIdentity": f"{OTHERS}\n{'x' * 2_000}"})
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        for _ in range(60):
            with pytest.raises(grpc.aio.AioRpcError, match="for its caller only") as caught:
                await create(claimed, metadata=bearer(tokens.mint(KEY, SLEEP, now())))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    lines = [each.getMessage() for each in caplog.records if "AUDIT" in each.getMessage()]
    assert 50 <= len(lines) < 60, "a flood is a few lines"
    assert all(MINE in line and OTHERS in line and line.isprintable() and len(line) < 400 for line in lines)


async def test_a_caller_of_another_cluster_gets_nothing(ca: authority.Authority) -> None:
    """SEC7: tokens of other clusters are not judged here."""
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        token = bearer(tokens.mint(KEY, SLEEP, now()))
        with pytest.raises(grpc.aio.AioRpcError, match="'clusterid' is not Kubernetes") as caught:
            await create(request(), metadata=(*token, ("clusterid", "another")))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await create(request(), metadata=(*token, ("clusterid", "")))


async def test_names_of_a_request_count_for_nothing(ca: authority.Authority) -> None:
    """SEC11: whatever is asked for, the certificate is the caller's own."""
    claimed = ca_pb2.IstioCertificateRequest(csr=named(900))
    claimed.metadata.update({"CertSigner": "x"})
    headers = (("x-forwarded-client-cert", f"URI={OTHERS}"), ("clusterid", "Kubernetes"))
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        token = bearer(tokens.mint(KEY, SLEEP, now()))
        answer = await create(claimed, metadata=token + headers)
        assert uris(answer.cert_chain[0]) == [MINE]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(claimed, metadata=headers)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_key_that_costs_much_is_refused_before_it_costs_anything(ca: authority.Authority) -> None:
    """SEC12: nothing is verified with such a key."""
    asked, started = huge(), time.process_time()
    with pytest.raises(authority.CsrRefusedError, match="14364"):
        ca.sign(asked, Identity("cluster.local", "default", "sleep"), authority.DEFAULT_TTL, now())
    assert time.process_time() - started < PROMPT


@pytest.mark.parametrize("seconds", [-1, -(2**62)])
async def test_a_certificate_cannot_end_before_it_begins(ca: authority.Authority, seconds: int) -> None:
    """SEC13; one that would last too long lasts as long as any may (test_server)."""
    async with stub(ca, serving.ServingCertificate(ca, now)) as create:
        with pytest.raises(grpc.aio.AioRpcError, match="negative") as caught:
            await create(request(seconds), metadata=bearer(tokens.mint(KEY, SLEEP, now())))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Verifier:
    """Knows everybody."""

    async def verify(self, token: str) -> Identity | None:
        return Identity("cluster.local", "default", token)


def csr_field(text: bytes) -> bytes:
    """A message whose CSR is this text."""
    return b"\n" + bytes([len(text)]) + text


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=120).map(csr_field)))
@settings(max_examples=200, deadline=None)
async def test_no_message_raises_anything_but_a_refusal(raw: bytes) -> None:
    """A crafted CSR never raises in the server."""
    service = server.CertificateService(CA, Verifier(), now)
    with pytest.raises(RpcError) as refusal:
        await service.create_certificate(
            raw,
            Request(path="", metadata=((b"authorization", b"Bearer x"),)),
            Client(address="10.0.0.1:1", secure=True),
        )
    assert refusal.value.code is Code.INVALID_ARGUMENT


CA = authority.Authority(authority.self_signed("cluster.local", now()))


@given(st.one_of(st.text(max_size=200), st.lists(st.text(alphabet="AZaz09-_=", max_size=20), max_size=5).map(".".join)))
async def test_no_token_raises(token: str) -> None:
    """A crafted token never raises (SEC15): it proves nobody."""
    assert await tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", now).verify(token) is None


@given(
    st.dictionaries(
        st.sampled_from(["sub", "iss", "aud", "exp", "nbf", "iat", "kubernetes.io"]),
        st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=2)),
        min_size=1,
    )
)
async def test_no_claims_of_a_token_raise(claims: dict[str, object]) -> None:
    """Nor do odd claims that are well signed."""
    good = jwt.decode(tokens.mint(SIGNER, SLEEP, now()), options={"verify_signature": False})
    signed = jwt.PyJWS().encode(json.dumps(good | claims).encode(), SIGNER, algorithm="ES256")
    await tokens.LocalTokenVerifier(SIGNER.public_key(), "cluster.local", now).verify(signed)

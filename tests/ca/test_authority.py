"""What the certificate authority signs, and what it refuses."""

import base64
import dataclasses
import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from istiod.ca import authority
from tests.odd_certificates import ODD_CURVE, of_no_version
from wire.spiffe import Identity

NOW = dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC)
SLEEP = Identity("cluster.local", "default", "sleep")
DAY = dt.timedelta(days=1)
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 (what the authority must refuse)


@pytest.fixture(scope="module")
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", NOW))


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def csr(key: Key | None = None, *extensions: x509.ExtensionType, subject: Sequence[x509.NameAttribute] = ()) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


CA = authority.Authority(authority.self_signed("cluster.local", NOW))
GOOD = csr()


def leaf(chain: tuple[str, ...]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain[0].encode())


def value(certificate: x509.Certificate, kind: type) -> x509.ExtensionType:
    return certificate.extensions.get_extension_for_class(kind).value


def test_a_root_lives_ten_years_and_may_sign() -> None:
    root = x509.load_pem_x509_certificate(authority.self_signed("cluster.local", NOW).certificate)
    assert root.not_valid_after_utc - NOW == dt.timedelta(days=3650)
    assert value(root, x509.BasicConstraints).ca
    assert value(root, x509.KeyUsage).key_cert_sign
    assert root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "cluster.local"


def test_the_name_is_the_callers_whatever_the_request_asks_for(ca: authority.Authority) -> None:
    """Row SEC11 of the hostile inputs."""
    request = csr(
        None,
        x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier("spiffe://cluster.local/ns/istio-system/sa/istiod"),
                *(x509.DNSName(f"*.n{n}.example") for n in range(100)),
            ]
        ),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"),
        subject=[x509.NameAttribute(NameOID.COMMON_NAME, "istiod")],
    )
    certificate = leaf(ca.sign(request, SLEEP, DAY, NOW))
    names = value(certificate, x509.SubjectAlternativeName)
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/sleep")]
    assert certificate.subject == x509.Name([])
    assert not value(certificate, x509.BasicConstraints).ca
    assert set(value(certificate, x509.ExtendedKeyUsage)) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert {e.oid.dotted_string for e in certificate.extensions}.isdisjoint({"1.2.3.4"})


def test_the_chain_is_leaf_first_root_last_and_verifies(ca: authority.Authority) -> None:
    key = rsa.generate_private_key(65537, 2048)
    chain = ca.sign(csr(key), SLEEP, DAY, NOW)
    certificate, root = (x509.load_pem_x509_certificate(pem.encode()) for pem in chain)
    certificate.verify_directly_issued_by(root)
    assert chain[-1] == ca.roots
    assert certificate.public_key() == key.public_key()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (dt.timedelta(), dt.timedelta(hours=24)),
        (dt.timedelta(seconds=-5), dt.timedelta(hours=24)),
        (dt.timedelta(minutes=5), dt.timedelta(minutes=5)),
        (dt.timedelta(days=90), dt.timedelta(days=90)),
        (dt.timedelta(days=91), dt.timedelta(days=90)),
    ],
)
def test_life_is_as_asked_and_a_day_by_default(
    ca: authority.Authority, asked: dt.timedelta, given: dt.timedelta
) -> None:
    certificate = leaf(ca.sign(csr(), SLEEP, asked, NOW))
    assert certificate.not_valid_after_utc - NOW == given
    assert NOW - certificate.not_valid_before_utc == authority.CLOCK_SKEW


def test_a_leaf_never_outlives_its_ca(ca: authority.Authority) -> None:
    late = NOW + authority.ROOT_LIFE - dt.timedelta(hours=1)
    assert leaf(ca.sign(csr(), SLEEP, DAY, late)).not_valid_after_utc == NOW + authority.ROOT_LIFE


def tampered() -> str:
    der = bytearray(x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("request_pem", "ttl", "now", "reason"),
    [
        (csr, DAY, NOW + authority.ROOT_LIFE, "has expired"),
        (lambda: "no PEM at all", DAY, NOW, "cannot be read"),
        (lambda: "x" * 20_000, DAY, NOW, "longer than 16384 characters"),
        (tampered, DAY, NOW, "possession"),
        (lambda: csr(SHORT), DAY, NOW, "2048 to 4096 bits, not 1024"),
        (lambda: csr(ec.generate_private_key(ec.SECP224R1())), DAY, NOW, "P-256 or P-384, not secp224r1"),
        (lambda: csr(ed25519.Ed25519PrivateKey.generate()), DAY, NOW, "neither ECDSA nor RSA"),
    ],
)
def test_unfit_requests_are_refused_with_the_reason(
    ca: authority.Authority, request_pem: Callable[[], str], ttl: dt.timedelta, now: dt.datetime, reason: str
) -> None:
    """Row SEC12 of the hostile inputs."""
    with pytest.raises(authority.CsrRefusedError, match=reason):
        ca.sign(request_pem(), SLEEP, ttl, now)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_never_breaks(text: str) -> None:
    for request in (text, f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"):
        with pytest.raises(authority.CsrRefusedError):
            CA.sign(request, SLEEP, DAY, NOW)


@given(st.data())
def test_a_request_changed_anywhere_is_refused(data: st.DataObject) -> None:
    der = bytearray(x509.load_pem_x509_csr(GOOD.encode()).public_bytes(serialization.Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    body = base64.encodebytes(bytes(der)).decode()
    request = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(authority.CsrRefusedError):
        CA.sign(request, SLEEP, DAY, NOW)


def test_a_serving_certificate_carries_dns_names_and_addresses(ca: authority.Authority) -> None:
    material = ca.serving(("istiod.istio-system.svc", "127.0.0.1"), NOW)
    names = value(x509.load_pem_x509_certificate(material.certificate), x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert b"PRIVATE KEY" in material.key


def root() -> str:
    return authority.self_signed("cluster.local", NOW).certificate.decode()


def plugged(*, ca_flag: bool = True, key: bytes | None = None, roots: bytes | None = None) -> authority.Material:
    own = rsa.generate_private_key(65537, 2048)
    root = authority.self_signed("corporation", NOW)
    root_key = serialization.load_pem_private_key(root.key, None)
    root_certificate = x509.load_pem_x509_certificate(root.certificate)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "intermediate")]))
        .issuer_name(root_certificate.subject)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
    )
    if ca_flag:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    pem = builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    key_pem = key if key is not None else authority.private_pem(own)
    return authority.Material(
        certificate=pem, key=key_pem, chain=pem, roots=root.certificate if roots is None else roots
    )


def test_an_intermediate_of_the_users_signs_with_its_whole_chain() -> None:
    chain = authority.Authority(plugged()).sign(csr(), SLEEP, DAY, NOW)
    certificate, intermediate, root = (x509.load_pem_x509_certificate(pem.encode()) for pem in chain)
    certificate.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)


@pytest.mark.parametrize(
    ("material", "reason"),
    [
        (lambda: plugged(ca_flag=False), "no CA:TRUE"),
        (lambda: plugged(roots=b""), "no root certificate"),
        (lambda: plugged(roots=of_no_version(root()).encode()), "cannot read"),
        (lambda: plugged(roots=ODD_CURVE.encode()), "does not lead to one of its roots"),
        (lambda: plugged(key=b"garbage"), "cannot read"),
        (lambda: plugged(key=authority.private_pem(ec.generate_private_key(ec.SECP256R1()))), "does not belong"),
        (lambda: plugged(key=authority.private_pem(ed25519.Ed25519PrivateKey.generate())), "neither ECDSA nor RSA"),
    ],
)
def test_material_that_cannot_serve_is_named_at_once(material: Callable[[], authority.Material], reason: str) -> None:
    with pytest.raises(authority.AuthorityError, match=reason):
        authority.Authority(material())


def test_a_certificate_whose_key_is_no_point_of_its_curve_is_refused() -> None:
    good = authority.self_signed("cluster.local", NOW)
    found = x509.load_pem_x509_certificate(good.certificate)
    point = found.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    der = found.public_bytes(serialization.Encoding.DER).replace(point, b"\x04" + b"\xff" * (len(point) - 1))
    bad = ssl.DER_cert_to_PEM_cert(der).encode()
    with pytest.raises(authority.AuthorityError, match="cannot read"):
        authority.Authority(dataclasses.replace(good, certificate=bad))

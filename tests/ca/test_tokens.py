"""Tokens of the local mesh: whose they are, and every way in which they are not believed."""

import datetime as dt
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, tokens
from wire.spiffe import Identity

NOW = dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
SLEEP = tokens.Account(namespace="default", service_account="sleep", pod="sleep-1")


def verifier(now: dt.datetime = NOW) -> tokens.LocalTokenVerifier:
    return tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", lambda: now)


async def test_a_minted_token_proves_its_account() -> None:
    assert await verifier().verify(tokens.mint(KEY, SLEEP, NOW)) == Identity("cluster.local", "default", "sleep")


def test_its_claims_are_those_of_a_projected_token() -> None:
    claims = jwt.decode(tokens.mint(KEY, SLEEP, NOW), options={"verify_signature": False})
    assert claims["sub"] == "system:serviceaccount:default:sleep"
    assert claims["aud"] == ["istio-ca"]
    assert claims["exp"] - claims["iat"] == 43_200
    assert claims["kubernetes.io"] == {
        "namespace": "default",
        "serviceaccount": {"name": "sleep"},
        "pod": {"name": "sleep-1"},
    }
    unbound = tokens.mint(KEY, tokens.Account(namespace="a", service_account="b"), NOW)
    assert "pod" not in jwt.decode(unbound, options={"verify_signature": False})["kubernetes.io"]


def forged(**changes: object) -> str:
    claims = jwt.decode(tokens.mint(KEY, SLEEP, NOW), options={"verify_signature": False}) | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, KEY, algorithm="ES256")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "garbage",
        "x" * 20_000,
        tokens.mint(ec.generate_private_key(ec.SECP256R1()), SLEEP, NOW),
        tokens.mint(KEY, SLEEP, NOW, audience="vault"),
        tokens.mint(KEY, SLEEP, NOW - dt.timedelta(hours=13)),
        tokens.mint(KEY, SLEEP, NOW + dt.timedelta(hours=1)),
        jwt.encode({"sub": "system:serviceaccount:a:b"}, None, algorithm="none"),
        forged(iss="https://elsewhere"),
        forged(exp=None),
        forged(sub="system:serviceaccount:default"),
        forged(sub="system:serviceaccount::sleep"),
        forged(sub="system:node:default:sleep"),
        forged(sub="a:b:c:d:e"),
        forged(sub="system:serviceaccount:default:sl\u00e9\u00e9p"),
        forged(sub="system:serviceaccount:default/sa/x:sleep"),
        forged(sub="system:serviceaccount:default:sleep\n"),
    ],
)
async def test_anything_else_proves_nobody(token: str) -> None:
    """Row SEC14 of the hostile inputs."""
    assert await verifier().verify(token) is None


async def test_odd_times_are_no_exception() -> None:
    assert not verifier()._in_time({"exp": "soon"})
    assert not verifier()._in_time({"exp": 4e9, "nbf": "then"})


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sa.key"
    key = tokens.load_or_create_key(path)
    assert tokens.load_or_create_key(path).public_key() == key.public_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_without_a_fit_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("no key")
    with pytest.raises(authority.AuthorityError, match="cannot use the token key bad"):
        tokens.load_or_create_key(tmp_path / "bad")
    (tmp_path / "p384").write_bytes(authority.private_pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(authority.AuthorityError, match="no ECDSA P-256 key"):
        tokens.load_or_create_key(tmp_path / "p384")

"""Keys and tokens as an issuer makes them."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def text(number: int) -> str:
    """A number as RFC 7518 has it."""
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key pair of an issuer."""

    kid: str
    key: Private

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"

    @property
    def public(self) -> dict[str, str]:
        """The public key as a JWK."""
        head = {"kid": self.kid, "alg": self.algorithm}
        if isinstance(self.key, rsa.RSAPrivateKey):
            numbers = self.key.public_key().public_numbers()
            return {"kty": "RSA", "n": text(numbers.n), "e": text(numbers.e), **head}
        point = self.key.public_key().public_numbers()
        x, y = (base64.urlsafe_b64encode(p.to_bytes(32, "big")).rstrip(b"=").decode() for p in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, **head}

    def token(self, **changes: Any) -> str:
        """A token that is good for an hour, with these claims changed; None leaves one out."""
        now = int(time.time())
        claims = {"iss": "https://issuer.example", "sub": "alice", "aud": "shop", "iat": now, "exp": now + 3600}
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers={"kid": self.kid})


def rsa_signer(kid: str = "r1") -> Signer:
    return Signer(kid=kid, key=rsa.generate_private_key(65537, 2048))


def ec_signer(kid: str = "e1") -> Signer:
    return Signer(kid=kid, key=ec.generate_private_key(ec.SECP256R1()))


def key_set(*signers: Signer) -> str:
    return json.dumps({"keys": [one.public for one in signers]})

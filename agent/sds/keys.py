"""Which kind of key a workload has: ECDSA on P-256, unless Istio's variables ask for another (features row C6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.bootstrap.inputs import InputError
from wire import decimal

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
RSA_BITS: Final = (2048, 4096)
_CURVES: Final[Mapping[str, type[ec.EllipticCurve]]] = {"P256": ec.SECP256R1, "P384": ec.SECP384R1}
_EXPONENT: Final = 65537


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyKind:
    """RSA of so many bits, or ECDSA on this curve where ``bits`` is 0."""

    bits: int = 0
    curve: str = "P256"

    def generate(self) -> PrivateKey:
        """A fresh key."""
        if self.bits:
            return rsa.generate_private_key(_EXPONENT, self.bits)
        return ec.generate_private_key(_CURVES[self.curve]())


DEFAULT: Final = KeyKind()


def read(environment: Mapping[str, str]) -> KeyKind:
    """What ECC_SIGNATURE_ALGORITHM, ECC_CURVE and WORKLOAD_RSA_KEY_SIZE ask for.

    The first wins over the last, as in Istio's agent. Where none is set the key is ECDSA, not RSA as there.

    Raises:
        InputError: a value is unknown, or a key of that size is one that CAs refuse.
    """
    algorithm, curve = environment.get("ECC_SIGNATURE_ALGORITHM", ""), environment.get("ECC_CURVE", "") or "P256"
    if algorithm not in ("", "ECDSA"):
        raise InputError(f"ECC_SIGNATURE_ALGORITHM={algorithm}: only ECDSA is known")
    if curve.upper() not in _CURVES:
        raise InputError(f"ECC_CURVE={curve}: not one of {', '.join(_CURVES)}")
    size = environment.get("WORKLOAD_RSA_KEY_SIZE", "")
    if algorithm or not size:
        return KeyKind(curve=curve.upper())
    bits = decimal.number(size)
    if bits is None or not RSA_BITS[0] <= bits <= RSA_BITS[1]:
        raise InputError(f"WORKLOAD_RSA_KEY_SIZE={size}: not from {RSA_BITS[0]} to {RSA_BITS[1]} bits")
    return KeyKind(bits=bits)


def pem(key: PrivateKey) -> bytes:
    """PKCS8 PEM, unencrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""Key sets (RFC 7517) of token issuers, judged as Envoy will.

Stock Envoy rejects a listener whose inline key set is no JSON or has no usable key, so that whoever serves key sets
could keep a workload from every further change. What passes here, passes there (tried in tests/envoy/test_real_jwt.py).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

LARGEST: Final = 1024 * 1024
"""Bytes (fault FT59)."""
MOST_KEYS: Final = 512
_MOST_SIGNS: Final = 40 * MOST_KEYS
"""Commas, colons and brackets: a megabyte of nothing else takes half a second to read, in which proxies wait."""
_DEEPEST: Final = 32
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_BASE64: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_LEAST_RSA: Final = 1024
_MOST_RSA: Final = 8192
_MOST_EXPONENT: Final = 32
_CURVES: Final[Mapping[str, tuple[ec.EllipticCurve, int, str]]] = {
    "P-256": (ec.SECP256R1(), 32, "ES256"),
    "P-384": (ec.SECP384R1(), 48, "ES384"),
    "P-521": (ec.SECP521R1(), 66, "ES512"),
}
_ED25519_LENGTH: Final = 32

Key = Mapping[str, Any]


class KeySetError(ValueError):
    """A text is no key set, or Envoy could use none of its keys; the message says why."""


def document(text: str) -> Any:
    """A text of JSON that a stranger's server gave, read in little time whatever it is.

    Raises:
        KeySetError: it is no JSON as Envoy reads it, or there is too much of it.
    """
    if len(text.encode(errors="surrogatepass")) > LARGEST:
        raise KeySetError(f"is larger than {LARGEST} bytes")
    if sum(map(text.count, ",:[{")) > _MOST_SIGNS:
        raise KeySetError(f"has far more in it than {MOST_KEYS} keys need")
    try:
        found = json.loads(text, parse_constant=_refuse, parse_int=float, object_pairs_hook=_once)  # int is quadratic
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as problem:
        raise KeySetError(f"is no JSON: {problem}") from problem
    return found


def read(text: str) -> tuple[Key, ...]:
    """The keys of a key set, usable or not.

    Raises:
        KeySetError: it is no JSON as Envoy reads it, or no key set.
    """
    found = document(text)
    keys = found.get("keys") if isinstance(found, Mapping) else None
    if not isinstance(keys, list):
        raise KeySetError("has no list of keys")
    if len(keys) > MOST_KEYS:
        raise KeySetError(f"has more than {MOST_KEYS} keys")
    if _depth(found) > _DEEPEST:
        raise KeySetError(f"is nested more than {_DEEPEST} deep")
    return tuple(key for key in keys if isinstance(key, Mapping))


def usable(text: str) -> str:
    """A key set with those keys that Envoy can use, always written the same way.

    Order, blanks and fields that say nothing to Envoy make no difference, and private parts are left out.

    Raises:
        KeySetError: it is no key set, or none of its keys can be used.
    """
    keys = [reduced for key in read(text) if (reduced := _reduced(key)) is not None]
    if not keys:
        raise KeySetError("has no key of kind RSA, EC, OKP or oct that can be used")
    unique = sorted({json.dumps(key, sort_keys=True, separators=(",", ":")) for key in keys})
    return f'{{"keys":[{",".join(unique)}]}}'


def has_private(keys: tuple[Key, ...]) -> bool:
    """Whether somebody published the private part of a key pair."""
    return any(key.get("kty") in ("RSA", "EC", "OKP") and not _PRIVATE.isdisjoint(key) for key in keys)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _depth(value: Any) -> int:
    """How deep lists and objects are nested; recursion is bounded by the JSON parser's own."""
    level, depth = [value], 0
    while level := [inner for one in level for inner in _inside(one)]:
        depth += 1
    return depth


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _reduced(key: Key) -> dict[str, str] | None:
    """What of a key Envoy needs; None where it has no use for it."""
    kind = _KINDS.get(str(key.get("kty")))
    algorithm, name = key.get("alg"), key.get("kid")
    if kind is None or not isinstance(algorithm, str | None) or not isinstance(name, str | None):
        return None
    needed, fits = kind
    values = {field: key[field] for field in needed if isinstance(key.get(field), str)}
    if len(values) != len(needed) or not fits(values, algorithm or ""):
        return None
    more = {"alg": algorithm, "kid": name}
    return {"kty": str(key["kty"]), **values, **{field: said for field, said in more.items() if said}}


def _bytes(text: str) -> bytes:
    """What base64url stands for; nothing where it is none."""
    if not _BASE64.match(text.rstrip("=")):
        return b""
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return b""


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _rsa(values: Mapping[str, str], algorithm: str) -> bool:
    modulus, exponent = _number(values["n"]), _number(values["e"])
    if algorithm and algorithm[:2] not in ("RS", "PS"):
        return False
    if not (_LEAST_RSA <= modulus.bit_length() <= _MOST_RSA) or exponent.bit_length() > _MOST_EXPONENT:
        return False
    try:
        rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        return False
    return modulus % 2 == 1


def _ec(values: Mapping[str, str], algorithm: str) -> bool:
    curve, length, its = _CURVES.get(values["crv"], (None, 0, ""))
    x, y = _bytes(values["x"]), _bytes(values["y"])
    if curve is None or algorithm not in ("", its) or max(len(x), len(y)) > length:
        return False
    try:
        ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
    except ValueError:
        return False
    return True


def _okp(values: Mapping[str, str], algorithm: str) -> bool:
    fits = values["crv"] == "Ed25519" and algorithm in ("", "EdDSA")
    return fits and len(_bytes(values["x"])) == _ED25519_LENGTH


def _oct(values: Mapping[str, str], algorithm: str) -> bool:
    return bool(_bytes(values["k"])) and algorithm in ("", "HS256", "HS384", "HS512")


_KINDS: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, str], str], bool]]]] = {
    "RSA": (("n", "e"), _rsa),
    "EC": (("crv", "x", "y"), _ec),
    "OKP": (("crv", "x"), _okp),
    "oct": (("k",), _oct),
}

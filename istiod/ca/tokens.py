"""Service-account tokens of a mesh without a Kubernetes API: minted and verified with one local ES256 key.

The claims are those of Kubernetes' projected tokens, so that the agent and its file are the same in both worlds. In a
cluster, TokenReview takes this verifier's place behind config.protocols.TokenVerifier.
"""

from __future__ import annotations

import datetime as dt
import pathlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, keystore
from wire import names
from wire.spiffe import Identity

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
TTL: Final = dt.timedelta(hours=12)
MAX_TOKEN_CHARS: Final = 16_384
_ALGORITHM: Final = "ES256"
_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_SUBJECT: Final = re.compile(rf"system:serviceaccount:(?P<namespace>{_NAME}):(?P<account>{_NAME})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose token: a service account, and the pod that it is bound to."""

    namespace: str
    service_account: str
    pod: str = ""


def load_or_create_key(path: pathlib.Path) -> ec.EllipticCurvePrivateKey:
    """The signing key in this file (PKCS8 PEM, mode 0600), made and kept if the file is absent.

    Raises:
        authority.AuthorityError: the file cannot be read or written, or holds no P-256 key.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            keystore.write_private(path, authority.private_pem(ec.generate_private_key(ec.SECP256R1())))
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise authority.AuthorityError(f"cannot use the token key {path.name}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise authority.AuthorityError(f"the token key {path.name} is no ECDSA P-256 key")
    return key


def mint(
    key: ec.EllipticCurvePrivateKey,
    account: Account,
    now: dt.datetime,
    ttl: dt.timedelta = TTL,
    audience: str = names.TOKEN_AUDIENCE,
) -> str:
    """A token for this account, valid from ``now`` (aware) for ``ttl``."""
    kubernetes: dict[str, object] = {
        "namespace": account.namespace,
        "serviceaccount": {"name": account.service_account},
    }
    if account.pod:
        kubernetes["pod"] = {"name": account.pod}
    claims = {
        "aud": [audience],
        "exp": int((now + ttl).timestamp()),
        "iat": int(now.timestamp()),
        "nbf": int(now.timestamp()),
        "iss": ISSUER,
        "sub": f"system:serviceaccount:{account.namespace}:{account.service_account}",
        "kubernetes.io": kubernetes,
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


class LocalTokenVerifier:
    """A TokenVerifier for tokens that ``mint`` made with the key of this public key."""

    def __init__(
        self,
        key: ec.EllipticCurvePublicKey,
        trust_domain: str,
        now: Callable[[], dt.datetime],
        audience: str = names.TOKEN_AUDIENCE,
    ) -> None:
        """Verify against this key and audience; identities get this trust domain; ``now`` gives aware times."""
        self._key = key
        self._trust_domain = trust_domain
        self._now = now
        self._audience = audience

    async def verify(self, token: str) -> Identity | None:
        """The identity that the token proves, or None; what is wrong with a token is not told to its bearer."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                options={
                    "require": ["exp", "sub", "aud", "iss"],
                    "verify_exp": False,  # checked below, against the clock that we were given
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError:
            return None
        return self._identity(claims) if self._in_time(claims) else None

    def _in_time(self, claims: Mapping[str, Any]) -> bool:
        now = self._now().timestamp()
        expires, starts = claims["exp"], claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(starts, int | float):
            return False
        return starts - authority.CLOCK_SKEW.total_seconds() <= now < expires

    def _identity(self, claims: Mapping[str, Any]) -> Identity | None:
        subject = _SUBJECT.fullmatch(str(claims["sub"]))
        return Identity(self._trust_domain, subject["namespace"], subject["account"]) if subject else None

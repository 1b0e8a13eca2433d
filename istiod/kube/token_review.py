"""Service-account tokens, judged by the API server (TokenReview), for the certificate service (features row O4).

The API server knows what no signature says: whether the pod and the account of a token still exist. An answer is used
again for ten seconds, never longer than the token lives, since an agent asks several times in a row (fault FT40), and
only while the watch has the token's pod: the API server remembers answers for ten seconds, too, and both together would
be too long for one that is gone (hostile-input SEC14).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt

from istiod.config.kubernetes import ApiError
from istiod.config.protocols import UnavailableError
from istiod.kube.client import KubernetesClient
from wire import names
from wire.spiffe import Identity

MAX_TOKEN_CHARS: Final = 16_384
DEADLINE: Final = 2.0
KEPT: Final = 10.0
"""Seconds for which an answer is used again: a pod that is gone proves nobody any longer after that (SEC14)."""
REFUSED: Final = 5.0
"""The same for a refusal: a token may be asked about before its pod is known everywhere."""
MOST: Final = 10_000
_EXTRA: Final = "authentication.kubernetes.io/"
_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_USER: Final = re.compile(rf"system:serviceaccount:(?P<namespace>{_NAME}):(?P<account>{_NAME})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPod:
    """The pod that a token is bound to, as the API server names it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whom a token proves, since when and until when (seconds of the epoch) that is believed, and of which pod it is.

    Of a clock that went back to before ``since`` nobody knows how long that is: it is asked again.
    """

    since: float
    until: float
    identity: Identity | None
    pod: BoundPod | None


def bound_pod(status: Any) -> BoundPod | None:
    """The pod that the status of a TokenReview names; None where the token is bound to none. Pure."""
    user = (status.get("user") or {}) if isinstance(status, dict) else {}
    extra = user.get("extra") or {}
    name, uid = ((extra.get(f"{_EXTRA}pod-{part}") or ("",))[0] for part in ("name", "uid"))
    matched = _USER.fullmatch(str(user.get("username", "")))
    return BoundPod(namespace=matched["namespace"], name=name, uid=uid) if matched and name and uid else None


def identity(status: Any, trust_domain: str, audience: str) -> Identity | None:
    """Whom the status of a TokenReview proves. Pure.

    A server that does not know audiences answers without any: that proves nothing for ours.
    """
    if not isinstance(status, dict) or status.get("authenticated") is not True or status.get("error"):
        return None
    audiences, who = status.get("audiences"), status.get("user")
    if not isinstance(audiences, list) or audience not in audiences or not isinstance(who, dict):
        return None
    user = _USER.fullmatch(str(who.get("username", "")))
    return Identity(trust_domain, user["namespace"], user["account"]) if user else None


class TokenReviewVerifier:
    """A TokenVerifier that asks the API server."""

    def __init__(
        self,
        client: KubernetesClient,
        trust_domain: str,
        audience: str = names.TOKEN_AUDIENCE,
        clock: Callable[[], float] = time.time,
        lives: Callable[[BoundPod], bool] = lambda _: True,
    ) -> None:
        """Ask through ``client``; identities get this trust domain; ``clock`` gives seconds of the epoch.

        ``lives`` says whether a pod is known to be there: without that an answer about its token is not used again.
        """
        self._client = client
        self._trust_domain = trust_domain
        self._audience = audience
        self._clock = clock
        self._lives = lives
        self._known: dict[bytes, Answer] = {}

    async def verify(self, token: str) -> Identity | None:
        """The identity that the token proves, or None.

        Raises:
            UnavailableError: the API server did not answer in time.
        """
        if len(token) > MAX_TOKEN_CHARS:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and self._holds(known):
            return known.identity
        status = await self._ask(token)
        found = identity(status, self._trust_domain, self._audience)
        pod = bound_pod(status) if found is not None else None
        answer = Answer(since=self._clock(), until=self._until(token, found), identity=found, pod=pod)
        self._remember(digest, answer)
        return found

    def _holds(self, known: Answer) -> bool:
        return known.since <= self._clock() < known.until and (known.pod is None or self._lives(known.pod))

    async def _ask(self, token: str) -> Any:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        try:
            answer = await self._client.request("post", _PATH, body, deadline=DEADLINE)
        except ApiError as error:
            raise UnavailableError(f"tokens cannot be reviewed now: {error}") from error
        return answer.get("status")

    def _until(self, token: str, found: Identity | None) -> float:
        now = self._clock()
        if found is None:
            return now + REFUSED
        try:
            expires = jwt.decode(token, options={"verify_signature": False, "verify_exp": False})["exp"]
            return min(now + KEPT, float(expires))
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            return now + REFUSED

    def _remember(self, digest: bytes, answer: Answer) -> None:
        if len(self._known) >= MOST:
            now = self._clock()
            self._known = {key: value for key, value in self._known.items() if value.until > now}
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[digest] = answer

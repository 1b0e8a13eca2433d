"""Whether service accounts may list the Secrets of their namespace, asked of the API server (hostile-input SEC63).

What istiod would serve over SDS, the proxy's own account has to be allowed to read: else whoever may run a pod in a
gateway's namespace would get its keys. Asked ahead, in a task of its own: nothing waits here while a proxy is served.
An answer counts for a minute; while there is none, the last one counts on (docs/decisions/0020).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey
from istiod.config.kubernetes import ApiError
from istiod.config.secret_rights import Account, Readers, Users
from istiod.kube.client import KubernetesClient
from istiod.rounds import Question, Rounds
from wire.exposition import Family, Sample, family

DEADLINE: Final = 5.0
"""Seconds that one review may take."""
AGAIN: Final = 45.0
"""Seconds from an answer to the next question: no answer of a server that gives some is older than a minute (SEC63)."""
REFUSED: Final = 10.0
"""The same for a refusal: the right may be given a moment after the pod was."""
KEPT: Final = 24 * 3600.0
"""Seconds for which the last answer counts on while there is no new one: as long as a certificate of the account's."""
AT_ONCE: Final = 8
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
_PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_CHANCE: Final = random.SystemRandom()

Put = Callable[[Readers], object]
Report = Callable[[tuple[Diagnostic, ...]], None]


@dataclass(slots=True, kw_only=True)
class _State(Question):
    """One account. ``answered`` is when ``allowed`` was heard; None: it never was."""

    allowed: bool = False
    answered: float | None = None


class SecretRights:
    """Asks about the accounts that are wanted. ``put`` takes all who may, ``report`` what is wrong, at each change."""

    def __init__(self, client: KubernetesClient, put: Put, report: Report, clock: Callable[[], float]) -> None:
        """``clock`` gives monotonic seconds."""
        self._client = client
        self._put = put
        self._report = report
        self._clock = clock
        self._users: Users = {}
        self._rounds: Rounds[Account, _State] = Rounds(clock, _LONGEST_PAUSE, self._one, self._tell)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._told: tuple[Diagnostic, ...] = ()
        self._counts: Counter[str] = Counter(allowed=0, refused=0, failed=0)

    def want(self, users: Users) -> None:
        """Know of these accounts from now on, and forget all others. The same mapping again costs nothing."""
        if users is self._users:
            return
        self._users = users
        self._rounds.keep(users, lambda now: _State(due=now))
        self._tell()
        self._rounds.wake()

    async def settled(self, patience: float) -> None:
        """Wait until each account has been asked about once, or so many seconds: who is not known of gets nothing."""
        await self._rounds.settled(patience)

    async def run(self) -> None:
        """Ask until cancelled."""
        await self._rounds.run()

    def families(self) -> Iterator[Family]:
        """What was asked, for /metrics."""
        samples = (Sample(value=count, labels={"answer": name}) for name, count in self._counts.items())
        text = "Reviews of whether a proxy's account may read Secrets."
        yield family("pilot_secret_access_reviews", "counter", text, *samples)

    async def _one(self, account: Account, state: _State) -> None:
        try:
            async with self._slots:
                allowed = await self._ask(account)
        except ApiError as problem:
            state.failed(str(problem))
            self._counts["failed"] += 1
            pause = state.pause(_FIRST_PAUSE, _LONGEST_PAUSE)
            state.due = self._clock() + pause * (0.5 + _CHANCE.random() / 2)
        else:
            now = self._clock()
            state.allowed, state.answered, state.failures, state.problem = allowed, now, 0, ""
            state.due = now + (AGAIN if allowed else REFUSED) * (0.8 + _CHANCE.random() / 5)
            self._counts["allowed" if allowed else "refused"] += 1

    async def _ask(self, account: Account) -> bool:
        answer = await self._client.request("post", _PATH, review(account), deadline=DEADLINE)
        if (found := verdict(answer)) is None:
            raise ApiError("POST subjectaccessreviews: what came says neither yes nor no")
        return found

    def _tell(self) -> None:
        now = self._clock()
        self._put(frozenset(account for account, state in self._rounds.questions.items() if _holds(state, now)))
        users = self._users.items()
        found = tuple(finding for account, keys in users for finding in self._findings(account, keys, now))
        if found != self._told:
            self._told = found
            self._report(found)

    def _findings(self, account: Account, keys: tuple[ConfigKey, ...], now: float) -> Iterator[Diagnostic]:
        state = self._rounds.questions[account]
        who = f"the service account {account[0]}/{account[1]}"
        if state.problem and _holds(state, now):
            message = f"nobody says whether {who} may still list Secrets: {state.problem}; the last answer holds"
            yield from (warning(Code.SECRETS_DENIED, key, _field(key), message) for key in keys)
        elif state.problem:
            message = f"nobody says whether {who} may list Secrets: {state.problem}; its proxies get none"
            yield from (error(Code.SECRETS_DENIED, key, _field(key), message) for key in keys)
        elif state.tried and not state.allowed:
            message = f"{who} may not list the Secrets of its namespace: its proxies get none"
            yield from (error(Code.SECRETS_DENIED, key, _field(key), message) for key in keys)


def _field(key: ConfigKey) -> str:
    """What chooses the proxies: a Gateway's selector, or a DestinationRule's."""
    return "spec.workloadSelector" if key.kind == "DestinationRule" else "spec.selector"


def _holds(state: _State, now: float) -> bool:
    """Whether an account may, by the last answer: that of the last minute, or an older one if none came since."""
    return state.allowed and state.answered is not None and now - state.answered <= KEPT


def review(account: Account) -> Mapping[str, Any]:
    """The question, with the groups that a service account is in. Pure."""
    namespace, name = account
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{name}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {"namespace": namespace, "verb": "list", "group": "", "resource": "secrets"},
        },
    }


def verdict(answer: Any) -> bool | None:
    """What the API server says; None where that is no answer. Pure.

    An authorizer that failed is no answer, unless another one has allowed it: ``evaluationError`` stands beside both.
    """
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
        return None
    if status["allowed"] and status.get("denied") is not True:
        return True
    return None if status.get("evaluationError") and status.get("denied") is not True else False

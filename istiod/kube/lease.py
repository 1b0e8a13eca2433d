"""Leader election by a Lease, as client-go does it (coordination.k8s.io/v1), with a fence before each write.

A holder counts as gone when its Lease has not changed for as long as the Lease says, by our own clock: the clocks of
two machines are never compared. A leader stops being one well before the others may think so, by a clock that goes on
while the process is stopped or the machine sleeps, so that it finds itself fenced before its first write (faults FT49,
FT50).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from istiod.config.kubernetes import CONFLICT, NOT_FOUND, ApiError
from istiod.kube.client import KubernetesClient

DURATION: Final = 15
"""Seconds after the last change of a Lease when its holder counts as gone."""
VALID: Final = 10.0
"""Seconds after the beginning of a renewal for which its leader takes itself for one."""
PERIOD: Final = 2.5
"""Seconds between two renewals, or looks."""
_PATH: Final = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


def boot_time() -> float:
    """Seconds of a clock that never goes back and counts time asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Who wants which Lease."""

    namespace: str
    name: str
    identity: str


class Leader:
    """One candidate of a Lease."""

    def __init__(
        self,
        client: KubernetesClient,
        candidate: Candidate,
        clock: Callable[[], float] = boot_time,
        *,
        alone: bool = False,
    ) -> None:
        """``alone``: there is no other, and no Lease (ENABLE_LEADER_ELECTION=false)."""
        self._client = client
        self._candidate = candidate
        self._clock = clock
        self._alone = alone
        self._until = 0.0
        self._seen = ""
        self._seen_at = 0.0
        self.problem: ApiError | None = None

    @property
    def holds(self) -> bool:
        """Whether we may write now. Ask again before each write."""
        return self._alone or self._clock() < self._until

    async def run(self) -> None:
        """Try for the Lease and renew it until cancelled; then give it back."""
        if self._alone:
            return
        try:
            while True:
                try:
                    await self._attempt()
                    self.problem = None
                except ApiError as error:
                    self.problem = error
                await asyncio.sleep(PERIOD)
        finally:
            if self.holds:
                with contextlib.suppress(ApiError):
                    await self._release()

    async def _attempt(self) -> None:
        began = self._clock()
        path = _PATH.format(self._candidate.namespace)
        try:
            found = await self._client.request("get", f"{path}/{self._candidate.name}", deadline=PERIOD * 2)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            found = {**body, "metadata": {"name": self._candidate.name}, "spec": {}}
        if not self._may_take(found):
            return
        exists = "resourceVersion" in found["metadata"]
        wanted = {**found, "spec": self._claim(found.get("spec") or {})}
        try:
            if exists:
                await self._client.request("put", f"{path}/{self._candidate.name}", wanted, deadline=PERIOD * 2)
            else:
                await self._client.request("post", path, wanted, deadline=PERIOD * 2)
        except ApiError as error:
            if error.status == CONFLICT:  # somebody was faster
                return
            raise
        self._until = began + VALID

    def _may_take(self, lease: Any) -> bool:
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity", "") in ("", self._candidate.identity):
            return True
        version = str(lease["metadata"].get("resourceVersion"))
        if version != self._seen:
            self._seen, self._seen_at = version, self._clock()
        return self._clock() > self._seen_at + float(spec.get("leaseDurationSeconds") or DURATION)

    def _claim(self, before: dict[str, Any]) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before.get("holderIdentity") == self._candidate.identity
        return {
            "holderIdentity": self._candidate.identity,
            "leaseDurationSeconds": DURATION,
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours else 1),
        }

    async def _release(self) -> None:
        """Let the next one in at once."""
        self._until = 0.0
        path = f"{_PATH.format(self._candidate.namespace)}/{self._candidate.name}"
        found = await self._client.request("get", path, deadline=PERIOD)
        if (found.get("spec") or {}).get("holderIdentity") == self._candidate.identity:
            found["spec"] = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
            await self._client.request("put", path, found, deadline=PERIOD)

"""Writes ``.status`` of objects of Istio's API, and an Event where something became bad. What to say is istiod.status'.

Only the leader writes, only what differs, and only onto the version that it has seen (resourceVersion), so that of two
writers one loses and looks again (fault FT49).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod.config.kubernetes import ApiError, Resource
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.lease import Leader
from istiod.kube.writer import Write, Writer
from istiod.status import conditions
from istiod.status.conditions import Addresses
from istiod.status.observed import Json, Observed

GATHER: Final = 0.5
"""Seconds in which findings about one change come together before they are written."""
AT_ONCE: Final = 100
"""Objects that are looked at before all else has its turn: 23 us each, and there may be thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What statuses are made of. ``version`` differs whenever any of the rest may."""

    ready: Callable[[], bool]
    version: Callable[[], object]
    observed: Callable[[], Iterable[tuple[ConfigKey, Observed]]]
    findings: Callable[[], Sequence[Diagnostic]]
    serving: Callable[[ConfigKey], bool]
    addresses: Callable[[ConfigKey], Addresses | None] = lambda _: ()
    """What the mesh gave to the hosts of an object; None while it does not know the object."""
    analysed: Callable[[ConfigKey], Sequence[Json] | None] = lambda _: ()
    """``validationMessages`` of Istio's analyzers; None while they have not run."""


class StatusWriter:
    """Keeps all statuses."""

    def __init__(
        self, client: KubernetesClient, leader: Leader, sources: Sources, now: Callable[[], dt.datetime]
    ) -> None:
        self._client = client
        self._sources = sources
        self._now = now
        self._done: object = None
        self._failed = False
        self.writer = Writer(leader, self._step, GATHER)
        self.writes = 0

    def _step(self) -> Iterator[Write]:
        version = self._sources.version()
        if not self._sources.ready() or version == self._done:
            return
        self._failed = False
        found: dict[ConfigKey, list[Diagnostic]] = {}
        for finding in self._sources.findings():
            if finding.key is not None:
                found.setdefault(finding.key, []).append(finding)
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        for count, (key, observed) in enumerate(tuple(self._sources.observed()), 1):
            if count % AT_ONCE == 0:
                yield _breath
            serving = self._sources.serving(key)
            addresses = self._sources.addresses(key)
            self._failed |= addresses is None and serving  # to be looked at again
            status = conditions.wanted(
                observed,
                found.get(key, ()),
                now,
                serving=serving,
                addresses=addresses or (),
                analysed=self._sources.analysed(key),
            )
            if status is not None:
                yield partial(self._write, key, observed, status)
        if not self._failed:
            self._done = version

    async def _write(self, key: ConfigKey, observed: Observed, status: Json) -> None:
        self.writes += 1
        body = {"metadata": {"resourceVersion": observed.resource_version}, "status": status}
        path = f"{_path(observed.resource, key)}/status"
        try:
            await self._client.request("patch", path, body, kind=MERGE_PATCH)
        except ApiError:
            self._failed = True
            raise
        for condition in conditions.worsened(observed, status):
            path = f"/api/v1/namespaces/{key.namespace}/events"
            await self._client.request("post", path, event(key, observed, condition, self._now()))


async def _breath() -> None:
    """Write nothing, and let the event loop go round."""
    await asyncio.sleep(0)


def event(key: ConfigKey, observed: Observed, condition: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    """A core/v1 Event about a condition that became bad."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    version = observed.resource.version
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{key.name[:40]}.", "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": f"{key.group}/{version}",
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": observed.uid,
            "resourceVersion": observed.resource_version,
        },
        "type": "Warning",
        "reason": condition["reason"],
        "message": f"{condition['type']} is {condition['status']}: {condition['message'] or condition['reason']}",
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": "istiod"},
    }


def _path(resource: Resource, key: ConfigKey) -> str:
    return f"/apis/{resource.group}/{resource.version}/namespaces/{key.namespace}/{resource.plural}/{key.name}"

"""Records in one Secret of the root namespace, a key each, which all replicas watch and write.

A Secret, since what proxies get may hold what an EnvoyFilter says in confidence, and ConfigMaps are read by many. Each
write names only the keys that it changes, so that no replica undoes what another wrote, and nobody needs the Lease.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from istiod.config.kubernetes import ApiError, Raw, Resource
from istiod.kube import secrets
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.collection import Collection
from istiod.kube.lease import Candidate, Leader
from istiod.kube.writer import Write, Writer

TYPE: Final = "istio.io/last-good"
GATHER: Final = 1.0
"""Seconds in which changes come together before they are written."""
_LOGGER = logging.getLogger(__name__)


def kept(raw: Raw) -> Raw:
    """What is looked at of the Secret: its values, but for those that are none."""
    found: dict[str, bytes] = {}
    data = raw.get("data")
    for key, value in (data if isinstance(data, Mapping) else {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            found[key] = b""
    return {"data": found}


class SecretRecords:
    """A protocols.Records: the Secret ``name``."""

    def __init__(self, client: KubernetesClient, namespace: str, name: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        alone = Leader(client, Candidate(namespace=namespace, name=name, identity=""), alone=True)
        self._due: Callable[[], Mapping[str, bytes | None]] = dict
        self.writer = Writer(alone, self._step, GATHER)
        resource = Resource(
            group="", version="v1", plural="secrets", kind="Secret", namespace=namespace, fields=f"metadata.name={name}"
        )
        self.collection = Collection(client, resource, kept, self.writer.wake)

    @property
    def items(self) -> Mapping[str, bytes]:
        """See Records."""
        found = self.collection.items.get((self._namespace, self._name))
        return {} if found is None else found["data"]

    async def load(self) -> None:
        """See Records. Where the API server refuses, what is kept comes with the watch."""
        try:
            found = await secrets.read(self._client, self._namespace, self._name)
        except ApiError as error:
            _LOGGER.warning("what proxies refused before is not known: %s", error)
            return
        if found is not None:
            self.collection.items[self._namespace, self._name] = {"data": dict(found)}

    async def run(self, due: Callable[[], Mapping[str, bytes | None]]) -> None:
        """See Records."""
        self._due = due
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.collection.follow())
            tasks.create_task(self.writer.run())

    def _step(self) -> Iterator[Write]:
        if self.collection.listed and (changes := self._due()):
            yield partial(self._put, changes)

    async def _put(self, changes: Mapping[str, bytes | None]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/secrets"
        if (self._namespace, self._name) not in self.collection.items:
            made = {"apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": {"name": self._name}}
            added = {key: value for key, value in changes.items() if value is not None}
            answer = await self._client.request("post", path, {**made, "data": _encoded(added)})
        else:
            body: dict[str, Any] = {"data": _encoded(changes)}
            answer = await self._client.request("patch", f"{path}/{self._name}", body, kind=MERGE_PATCH)
        self.collection.items[self._namespace, self._name] = kept(answer)


def _encoded(data: Mapping[str, bytes | None]) -> dict[str, str | None]:
    return {key: None if value is None else base64.b64encode(value).decode() for key, value in data.items()}

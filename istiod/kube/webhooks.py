"""Our webhook configurations: their caBundle is kept equal to the CA's roots (row A25; fault FT43).

The chart installs validation that lets everything pass while nobody answers; once we do, its policy becomes Fail.

Ours are those that carry this revision's label and those with the names that the operator gave; revision tags carry the
label too. Of a configuration only the webhooks are touched that call istiod.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from istiod.config.kubernetes import ApiError, Raw, Resource
from istiod.kube.client import JSON_PATCH, KubernetesClient
from istiod.kube.collection import Collection
from istiod.kube.lease import Leader
from istiod.kube.writer import Write, Writer
from wire.exposition import Family, Sample, family, of
from wire.names import LABEL_REVISION

GROUP: Final = "admissionregistration.k8s.io"
_PATH: Final = f"/apis/{GROUP}/v1"
VALIDATING: Final = "ValidatingWebhookConfiguration"
KINDS: Final = tuple(
    Resource(group=GROUP, version="v1", plural=f"{kind.lower()}s", kind=kind, namespaced=False)
    for kind in ("MutatingWebhookConfiguration", VALIDATING)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """Which configurations are this istiod's, and by which ``hosts`` its serving certificate is reached.

    ``injection`` is the name of the configuration that injects.
    """

    revision: str
    names: frozenset[str]
    hosts: frozenset[str]
    injection: str = ""

    def called(self, config: Mapping[str, Any]) -> bool:
        """Whether a webhook's clientConfig leads to us: our roots are right for the names of our certificate only."""
        if service := config.get("service"):
            return f"{service.get('name')}.{service.get('namespace')}.svc" in self.hosts
        return urlsplit(config.get("url", "")).hostname in self.hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What they should say: the CA's roots, and whether objects may be refused for want of an answer."""

    roots: Callable[[], str]
    strict: Callable[[], bool]


def keep(raw: Raw) -> Raw:
    """What is looked at of a configuration."""
    metadata = raw["metadata"]
    return {
        "labels": metadata.get("labels") or {},
        "resourceVersion": metadata.get("resourceVersion", ""),
        "uid": metadata.get("uid", ""),
        "webhooks": [
            {"clientConfig": one.get("clientConfig") or {}, "failurePolicy": one.get("failurePolicy", "")}
            for one in raw.get("webhooks") or ()
        ],
    }


def patch(name: str, item: Mapping[str, Any], ours: Ours, roots: str, *, strict: bool) -> list[dict[str, Any]]:
    """The JSON patch that a configuration (as ``keep`` gives it) needs; empty where it is right, or not ours. Pure."""
    said = item["labels"].get(LABEL_REVISION)
    if said != ours.revision and not (said is None and name in ours.names):
        return []
    bundle = base64.b64encode(roots.encode()).decode()
    wanted = {"/clientConfig/caBundle": bundle, **({"/failurePolicy": "Fail"} if strict else {})}
    fields = [
        {"op": "add", "path": f"/webhooks/{i}{path}", "value": value}
        for i, one in enumerate(item["webhooks"])
        if ours.called(one["clientConfig"])
        for path, value in wanted.items()
        if value != (one["failurePolicy"] if path == "/failurePolicy" else one["clientConfig"].get("caBundle"))
    ]
    version = {"op": "replace", "path": "/metadata/resourceVersion", "value": item["resourceVersion"]}  # else 409
    return [version, *fields] if fields else []


PATIENCE: Final = 60.0
"""Seconds for which a start waits at most for the caBundle. Rights may be missing, or a leader of another root may keep
its own; proxies need their configuration all the same."""


class Trust:
    """Whether the API server can trust our webhooks: pods that it makes before are refused.

    Once it can, that is never taken back: a caBundle that somebody wipes must not take all replicas out of service.
    """

    def __init__(self, missing: Callable[[], Sequence[str]], clock: Callable[[], float] = time.monotonic) -> None:
        """``missing``: what is not as it should be now, a line each."""
        self._missing = missing
        self._clock = clock
        self._until = clock() + PATIENCE
        self._given = False

    def waiting(self) -> Sequence[str]:
        """What a start has to wait for."""
        found = () if self._given else self._missing()
        self._given = self._given or not found or self._clock() >= self._until
        return () if self._given else found


class WebhookBundles:
    """Keeps our configurations as ``wishes`` says; tells ``followers`` of each change."""

    def __init__(self, client: KubernetesClient, leader: Leader, ours: Ours, wishes: Wishes) -> None:
        self._client = client
        self._ours = ours
        self._wishes = wishes
        self.writer = Writer(leader, self._step)
        self._updates = 0
        self._errors: Counter[str] = Counter()
        self.followers: list[Callable[[], None]] = [self.writer.wake]
        self.collections = tuple(Collection(client, resource, keep, self._changed) for resource in KINDS)

    def _changed(self) -> None:
        for follow in self.followers:
            follow()

    @property
    def listed(self) -> bool:
        """Whether it is known which configurations there are."""
        return all(collection.listed for collection in self.collections)

    def untrusted(self) -> Sequence[str]:
        """Our configurations that have another caBundle than our roots, whoever writes it, a line each."""
        if not self.listed:
            return ("webhook configurations: being listed",)
        return [
            f"{resource.kind} {name}: its caBundle is not ours yet"
            for resource, collection in zip(KINDS, self.collections, strict=True)
            for (_, name), item in collection.items.items()
            if patch(name, item, self._ours, self._wishes.roots(), strict=False)
        ]

    def owner(self) -> Raw | None:
        """The configuration that injects, as an owner of objects that are to go with it; None where there is none."""
        name = self._ours.injection
        item = self.collections[0].items.get(("", name))
        if item is None:
            return None
        return {"apiVersion": f"{GROUP}/v1", "kind": KINDS[0].kind, "name": name, "uid": item["uid"]}

    def families(self) -> Iterator[Family]:
        """What was written of the configurations that validate, under Istio's names (features row D20)."""
        yield of("galley_validation_config_updates", "counter", "Updates of our validation webhooks.", self._updates)
        errors = (Sample(value=count, labels={"reason": reason}) for reason, count in sorted(self._errors.items()))
        yield family("galley_validation_config_update_error", "counter", "Updates that failed.", *errors)

    async def _write(self, resource: Resource, name: str, body: list[dict[str, Any]]) -> None:
        validates = resource.kind == VALIDATING
        try:
            await self._client.request("patch", f"{_PATH}/{resource.plural}/{name}", body, kind=JSON_PATCH)
        except ApiError as error:
            if validates:
                self._errors[error.reason or "unknown"] += 1
            raise
        self._updates += validates

    def _step(self) -> Iterator[Write]:
        for resource, collection in zip(KINDS, self.collections, strict=True):
            strict = resource.kind == VALIDATING and self._wishes.strict()
            for (_, name), item in collection.items.items():
                if body := patch(name, item, self._ours, self._wishes.roots(), strict=strict):
                    yield partial(self._write, resource, name, body)

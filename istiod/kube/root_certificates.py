"""ConfigMap ``istio-ca-root-cert`` in every namespace: what proxies verify istiod and each other by (row O1).

Written where it is missing or differs; a namespace that goes away, and those of Kubernetes itself, are left alone.
The webhook configuration that injects owns them, so that `helm uninstall` takes them along; once it is gone, nothing is
written any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from istiod.config.kubernetes import Raw, Resource
from istiod.kube.client import MERGE_PATCH, KubernetesClient
from istiod.kube.collection import Collection
from istiod.kube.lease import Leader
from istiod.kube.writer import Write, Writer

NAME: Final = "istio-ca-root-cert"
KEY: Final = "root-cert.pem"
IGNORED: Final = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
"""Namespaces without meshed pods (Istio: inject.IgnoredNamespaces)."""
_LABELS: Final = {"istio.io/config": "true"}
RESOURCE: Final = Resource(
    group="", version="v1", plural="configmaps", kind="ConfigMap", fields=f"metadata.name={NAME}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the ConfigMaps are made of, asked for when it is needed.

    Attributes:
        namespaces: where one has to be.
        roots: certificates, PEM.
        owner: the object that they go with; None where there is none.
        listed: whether it is known which owner there is.
    """

    namespaces: Callable[[], Iterable[str]]
    roots: Callable[[], str]
    owner: Callable[[], Raw | None]
    listed: Callable[[], bool]


def body(roots: str, owner: Raw | None) -> dict[str, Any]:
    """What of a ConfigMap is ours. Pure."""
    metadata = {"name": NAME, "labels": _LABELS, **({} if owner is None else {"ownerReferences": [owner]})}
    return {"metadata": metadata, "data": {KEY: roots}}


def kept(raw: Raw) -> Raw:
    """What is looked at of a ConfigMap."""
    return {"data": raw.get("data"), "owners": raw["metadata"].get("ownerReferences") or []}


def due(
    namespaces: Iterable[str], there: Mapping[tuple[str, str], Raw], roots: str, owner: Raw | None = None
) -> Iterator[tuple[str, bool]]:
    """The namespaces that need the ConfigMap, and whether it is there with something else in it. Pure."""
    for namespace in namespaces:
        found = there.get((namespace, NAME))
        if namespace in IGNORED:
            continue
        if found is None or (found["data"] or {}).get(KEY) != roots or not _owned(found["owners"], owner):
            yield namespace, found is not None


def _owned(owners: Iterable[Raw], owner: Raw | None) -> bool:
    return owner is None or owner["uid"] in {each["uid"] for each in owners}


class RootCertificates:
    """Keeps the ConfigMap in all namespaces as ``wishes`` say."""

    def __init__(self, client: KubernetesClient, leader: Leader, wishes: Wishes) -> None:
        self._client = client
        self._wishes = wishes
        self._had_owner = False
        self.writer = Writer(leader, self._step)
        self.collection = Collection(client, RESOURCE, kept, self.writer.wake)

    def _step(self) -> Iterator[Write]:
        wishes = self._wishes
        if not (self.collection.listed and wishes.listed()):
            return
        owner = wishes.owner()
        if owner is None and self._had_owner:  # uninstalled: what the API server takes away now is not made again
            return
        self._had_owner = owner is not None
        for namespace, exists in due(wishes.namespaces(), self.collection.items, wishes.roots(), owner):
            yield partial(self._put, namespace, owner, exists=exists)

    async def _put(self, namespace: str, owner: Raw | None, *, exists: bool) -> None:
        made = body(self._wishes.roots(), owner)
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        if exists:
            await self._client.request("patch", f"{path}/{NAME}", made, kind=MERGE_PATCH)
        else:
            await self._client.request("post", path, {"apiVersion": "v1", "kind": "ConfigMap", **made})

"""ConfigMap ``istio-ca-root-cert`` in every namespace: what proxies verify istiod and each other by (row O1).

Written where it is missing or differs; a namespace that goes away, and those of Kubernetes itself, are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

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


def due(namespaces: Iterable[str], there: Mapping[tuple[str, str], Raw], roots: str) -> Iterator[tuple[str, bool]]:
    """The namespaces that need the ConfigMap, and whether it is there with something else in it. Pure."""
    for namespace in namespaces:
        found = there.get((namespace, NAME))
        if namespace not in IGNORED and (found is None or (found.get("data") or {}).get(KEY) != roots):
            yield namespace, found is not None


class RootCertificates:
    """Keeps the ConfigMap in all namespaces that ``namespaces`` gives, with what ``roots`` gives."""

    def __init__(
        self,
        client: KubernetesClient,
        leader: Leader,
        namespaces: Callable[[], Iterable[str]],
        roots: Callable[[], str],
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._roots = roots
        self.writer = Writer(leader, self._step)
        self.collection = Collection(client, RESOURCE, lambda raw: {"data": raw.get("data")}, self.writer.wake)

    def _step(self) -> Iterator[Write]:
        if self.collection.listed:
            for namespace, exists in due(self._namespaces(), self.collection.items, self._roots()):
                yield partial(self._put, namespace, exists=exists)

    async def _put(self, namespace: str, *, exists: bool) -> None:
        body = {"metadata": {"name": NAME, "labels": _LABELS}, "data": {KEY: self._roots()}}
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        if exists:
            await self._client.request("patch", f"{path}/{NAME}", body, kind=MERGE_PATCH)
        else:
            await self._client.request("post", path, {"apiVersion": "v1", "kind": "ConfigMap", **body})

"""Which kinds are watched in a cluster, and what it means for the start that one cannot be listed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crds import local_rate_limit, registry
from crds.key import NETWORKING, SECURITY, TELEMETRY
from crds.registry import Effect, KindInfo
from istiod.config.kubernetes import Resource
from istiod.config.store import Kind

POD: Final[Kind] = ("", "Pod")
NODE: Final[Kind] = ("", "Node")
NAMESPACE: Final[Kind] = ("", "Namespace")
SECRET: Final[Kind] = ("", "Secret")
CONFIG_MAP: Final[Kind] = ("", "ConfigMap")
SERVICE: Final[Kind] = ("", "Service")
GATEWAY: Final[Kind] = (NETWORKING, "Gateway")
DESTINATION_RULE: Final[Kind] = (NETWORKING, "DestinationRule")
CORE: Final[tuple[Kind, ...]] = (
    NAMESPACE,
    CONFIG_MAP,
    SERVICE,
    ("discovery.k8s.io", "EndpointSlice"),
    POD,
    NODE,
    SECRET,
)
"""Kinds of Kubernetes that the mesh is made of. Of the workload kinds only their pods matter here."""
_GROUPS: Final = (NETWORKING, SECURITY, TELEMETRY, "extensions.istio.io", local_rate_limit.GROUP)
_USELESS: Final = (
    "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=bootstrap.kubernetes.io/token"
)
"""Secrets that never hold a certificate for a gateway; the API server does not send them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedKind:
    """A kind to watch.

    ``optional``: where its CRD or our right to read it is missing, the mesh starts as if there were no object of it. It
    is never so for policies (that would fail open) and for what the mesh is made of.
    ``ours``: an object of Istio's API, whose status we write and which belongs to a revision.
    """

    info: KindInfo
    optional: bool
    ours: bool
    namespace: str = ""
    fields: str = ""

    @property
    def kind(self) -> Kind:
        """Group and kind."""
        return self.info.group, self.info.kind

    def resource(self, attempt: int = 0) -> Resource:
        """Where the API serves it. Each attempt that was answered 404 tries the next of the known versions."""
        versions = self.info.versions
        return Resource(
            group=self.info.group,
            version=versions[attempt % len(versions)],
            plural=self.info.plural,
            kind=self.info.kind,
            namespaced=self.info.namespaced,
            namespace=self.namespace,
            fields=self.fields,
        )


def watched(root_namespace: str) -> tuple[WatchedKind, ...]:
    """All kinds that are watched; ConfigMaps in the root namespace only."""
    return tuple(_watched(root_namespace))


def _watched(root_namespace: str) -> Iterator[WatchedKind]:
    for kind in CORE:
        yield WatchedKind(
            info=registry.KINDS[kind],
            optional=kind == SECRET,  # a gateway chain without its Secret is left out and reported
            ours=False,
            namespace=root_namespace if kind == CONFIG_MAP else "",
            fields=_USELESS if kind == SECRET else "",
        )
    for info in registry.KINDS.values():
        if info.group in _GROUPS and info.effect is not Effect.SILENT:
            yield WatchedKind(info=info, optional=info.group != SECURITY, ours=True)

"""Which EnvoyFilters patch bootstraps that no connected proxy asks for (feature row K2).

Only an agent that BOOTSTRAP_XDS_AGENT tells to asks, when its pod starts; its Envoy says in its metadata that it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crds.diagnostic import Code, Diagnostic, warning
from istiod.config.proxy import Proxy
from istiod.mesh import places
from istiod.mesh.context import MeshContext
from istiod.mesh.envoy_filters import EnvoyFilter, Patch
from wire import names
from wire.node import Node, NodeType

_KIND = "BOOTSTRAP"


def findings(context: MeshContext, proxies: Iterable[Proxy]) -> Iterator[Diagnostic]:
    """A warning for each patch that none of these proxies asks for."""
    index = context.envoy_filters
    waiting = [(one, patch) for one in index.all() for patch in one.patches if patch.apply_to == _KIND]
    for proxy in proxies if waiting else ():
        if proxy.node.metadata.get(names.BOOTSTRAP_XDS_AGENT) == "true":
            waiting = [each for each in waiting if not _holds(context, *each, proxy.node)]
    for one, patch in waiting:
        message = (
            f"no connected proxy that it is for asks for its bootstrap, so nothing is patched: that takes "
            f'{names.BOOTSTRAP_XDS_AGENT}: "true" in proxyMetadata, and a new pod'
        )
        yield warning(Code.UNASKED_BOOTSTRAP, one.key, f"{patch.field}.applyTo", message)


def _holds(context: MeshContext, one: EnvoyFilter, patch: Patch, node: Node) -> bool:
    pod = context.backends.pods.get((node.namespace, node.name))
    near = one.key.namespace in (context.envoy_filters.root_namespace, node.namespace)
    gateway = node.type is NodeType.ROUTER
    meant = patch.context == "ANY" or (patch.context == "GATEWAY") == gateway
    return near and meant and patch.speaks_of(node) and one.selector <= places.of(node, pod).labels

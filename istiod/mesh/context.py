"""The mesh as one value: built from a snapshot, incrementally, and asked for scopes and views.

The only module that knows both halves: the model (services, endpoints, policies) and the indexes of routes and
gateways. Compiling scopes is istiod.envoy's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod.config.proxy import Proxy
from istiod.config.store import ConfigSnapshot
from istiod.mesh.endpoint import EndpointTable, View
from istiod.mesh.model import Model
from istiod.mesh.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshContext:
    """The model, the endpoints (which no scope holds), and what was found wrong with the objects."""

    model: Model
    endpoints: EndpointTable
    diagnostics: tuple[Diagnostic, ...] = field(default=())


def build(
    snapshot: ConfigSnapshot, previous: MeshContext | None = None, changed: frozenset[ConfigKey] = frozenset()
) -> MeshContext:
    """The mesh of a snapshot.

    Args:
        snapshot: all objects.
        previous: the context before, whose unchanged parts are reused (and are then the same objects).
        changed: the keys that differ from ``previous``'s snapshot; ignored without ``previous``.
    """
    raise NotImplementedError


def scope(context: MeshContext, proxy: Proxy) -> Scope:
    """What a proxy gets. Proxies alike share it: the same objects, also across contexts while nothing changed."""
    raise NotImplementedError


def view(context: MeshContext, proxy: Proxy) -> View:
    """Where a proxy looks from, for its endpoints."""
    raise NotImplementedError

"""Objects as an API server gives them, for analyzers: which of them count, and what the mesh's ConfigMap says. Pure.

How they are read is left to others: ``istioctl analyze`` lists them once, istiod watches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from crds import text
from istiod.analysis import fields, kinds
from istiod.analysis.kinds import Kind
from istiod.analysis.membership import REVISION, SYSTEM_NAMESPACES
from istiod.analysis.resources import Resource, resource

DEFAULT: Final = "default"
"""The revision whose ConfigMaps have no suffix."""
SECRETS: Final = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"
"""The field selector of Secrets that may hold a certificate."""


def concerning(kind: Kind, item: Mapping[str, Any], revision: str) -> Resource | None:
    """An item of a list, which leaves its type out; None where a control plane of that revision does not read it."""
    version = kinds.SERVED[kind].partition("/")[0]
    typed = {"apiVersion": f"{kind.group}/{version}" if kind.group else version, "kind": kind.name}
    found = resource({**typed, **item})
    return found if found is not None and not of_system(found) and _concerns(found, revision) else None


def of_system(found: Resource) -> bool:
    """Whether it belongs to Kubernetes itself."""
    return found.namespace in SYSTEM_NAMESPACES or (found.kind == kinds.NAMESPACE and found.name in SYSTEM_NAMESPACES)


def _concerns(found: Resource, revision: str) -> bool:
    if found.kind == kinds.CONFIG_MAP:
        return found.name.startswith("istio")
    own = found.labels.get(REVISION)
    return found.kind not in kinds.ISTIO or own is None or own == revision


def config_map(found: Iterable[Resource], namespace: str, revision: str) -> tuple[str, Mapping[str, str]]:
    """The name of the ConfigMap of the mesh configuration, and its texts ``mesh`` and ``meshNetworks``."""
    name = "istio" if revision in ("", DEFAULT) else f"istio-{revision}"
    maps = (each for each in found if each.kind == kinds.CONFIG_MAP and each.namespace == namespace)
    own = next((each for each in maps if each.name == name), None)
    return name, {key: fields.text(own.document, "data", key) if own else "" for key in ("mesh", "meshNetworks")}


def settings(said: Mapping[str, str], root_namespace: str) -> tuple[fields.Record, fields.Record]:
    """Mesh configuration and networks of their texts.

    Raises:
        UnreadableError: one is no YAML.
    """
    mesh, networks = (fields.record(text.load(said[key])) for key in ("mesh", "meshNetworks"))
    return {"rootNamespace": root_namespace, **mesh}, networks

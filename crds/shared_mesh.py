"""A shared mesh configuration (SHARED_MESH_CONFIG) below the revision's own: two texts become one. Pure.

As Istio merges them (pkg/config/mesh, ApplyMeshConfig): what the own one says replaces what the shared one says, field
by field. ``defaultConfig`` and ``defaultProviders`` are merged by their own fields, and so are the variables of
``proxyMetadata``; ``extensionProviders`` are merged by name, and trust domains of both are aliases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from crds import parse, text
from crds.mesh_config import DefaultProviders, MeshConfig
from crds.meta import Model
from crds.proxy_config import ProxyConfig

_ALIASES: Final = "trustDomainAliases"
_PROVIDERS: Final = "extensionProviders"
_VARIABLES: Final = "proxyMetadata"
Tree = Mapping[str, Any]


def merged(own: str, shared: str) -> str:
    """The text that says what both say.

    It is the own text as it stands where there is nothing below it: nothing is shared, or what is shared is no mesh
    configuration (whoever reads both reports that). An own text that cannot be read is left to its reader, too.
    """
    below, above = _tree(shared), _tree(own)
    if not below or above is None or parse.part(MeshConfig, below, None)[0] is None:
        return own
    lower, upper = _named(below, MeshConfig), _named(above, MeshConfig)
    made = {**lower, **upper}
    for field, kind in (("defaultConfig", ProxyConfig), ("defaultProviders", DefaultProviders)):
        if isinstance(lower.get(field), Mapping) and isinstance(upper.get(field), Mapping):
            made[field] = _fields(_named(lower[field], kind), _named(upper[field], kind))
    if isinstance(upper.get(_PROVIDERS), list):
        made[_PROVIDERS] = _by_name(lower.get(_PROVIDERS) or (), upper[_PROVIDERS])
    if isinstance(upper.get(_ALIASES), list):
        made[_ALIASES] = list(dict.fromkeys((*(lower.get(_ALIASES) or ()), *map(str, upper[_ALIASES]))))
    return json.dumps(made)


def _tree(written: str) -> Tree | None:
    """What a text holds: nothing where nothing is written, None where it is no object."""
    try:
        found = text.load(written)
    except text.UnreadableError:
        return None
    if found is None:
        return {}
    return found if isinstance(found, Mapping) else None


def _named(tree: Tree, kind: type[Model]) -> dict[str, Any]:
    """The fields that say something, by the names that Istio documents: in YAML each has two."""
    names = {name: str(field.alias) for name, field in kind.model_fields.items()}
    return {names.get(name, name): value for name, value in tree.items() if value is not None}


def _fields(lower: Tree, upper: Tree) -> Tree:
    both = [each[_VARIABLES] for each in (lower, upper) if isinstance(each.get(_VARIABLES), Mapping)]
    variables = {name: value for each in both for name, value in each.items()}
    return {**lower, **upper, **({_VARIABLES: variables} if both else {})}


def _by_name(lower: Any, upper: list[Any]) -> list[Any]:
    """Both lists; of the own one nobody has checked what a name is."""
    known = [each.get("name") for each in upper if isinstance(each, Mapping)]
    return [*(each for each in lower if each.get("name") not in known), *upper]

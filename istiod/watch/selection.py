"""Whose objects the mesh looks at: ``discoverySelectors`` of the mesh configuration (rows D17, R5), and revisions.

Pure. The root namespace is always looked at, since mesh-wide settings and policies live there.
"""

from __future__ import annotations

from collections.abc import Mapping

from crds import mesh_config, parse, text
from crds.meta import LabelSelector, LabelSelectorRequirement
from istiod.config.kubernetes import Raw
from wire.names import LABEL_REVISION

Selectors = tuple[LabelSelector, ...]


def text_of(config_map: Raw | None) -> str:
    """The mesh configuration in a ConfigMap."""
    said = ((config_map or {}).get("data") or {}).get("mesh", "")
    return said if isinstance(said, str) else ""


def selectors(said: str, before: Selectors) -> Selectors:
    """``discoverySelectors`` of a mesh configuration; ``before`` where it is unreadable (the mesh reports it)."""
    try:
        document = text.load(said) if said.strip() else {}
    except text.UnreadableError:
        return before
    if not isinstance(document, Mapping):
        return before
    only = {name: document[name] for name in ("discoverySelectors", "discovery_selectors") if name in document}
    config, _ = parse.part(mesh_config.MeshConfig, only, None)
    return before if config is None else config.discovery_selectors


def selected(chosen: Selectors, labels: Mapping[str, str]) -> bool:
    """Whether a namespace with these labels is looked at; without selectors every one is."""
    return not chosen or any(_matches(selector, labels) for selector in chosen)


def of_revision(raw: Raw, revision: str) -> bool:
    """Whether an object is ours: it names no revision, or this one (Istio: LabelsInRevision)."""
    said = ((raw.get("metadata") or {}).get("labels") or {}).get(LABEL_REVISION)
    return said is None or said == revision


def _matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    """Kubernetes: absent labels satisfy NotIn and DoesNotExist; an unknown operator selects nothing."""
    present, value = requirement.key in labels, labels.get(requirement.key)
    return {
        "In": present and value in requirement.values,
        "NotIn": value not in requirement.values,
        "Exists": present,
        "DoesNotExist": not present,
    }.get(requirement.operator, False)

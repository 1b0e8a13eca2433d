"""What differs between two resource sets, found the slow and plain way: every name of both is looked at."""

from __future__ import annotations

from collections.abc import Mapping

from istiod.config.resource import ResourceSet


def changed(before: ResourceSet, after: ResourceSet) -> Mapping[str, frozenset[str]]:
    """The names whose resource came, went or has another version, by type URL; types without change are left out."""
    found = {}
    for type_url in before.layers.keys() | after.layers.keys():
        names = {each.name for each in (*before.of(type_url), *after.of(type_url))}
        versions = {name: (before.get(type_url, name), after.get(type_url, name)) for name in names}
        moved = {n for n, (a, b) in versions.items() if (a and a.version) != (b and b.version)}
        if moved:
            found[type_url] = frozenset(moved)
    return found

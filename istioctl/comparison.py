"""What istiod would have a proxy hold against what its Envoy holds: a difference for each kind of resource."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from istioctl import camel
from istioctl.dump import Dump, Json

_STATIC: Final = ("static_clusters", "static_listeners", "static_route_configs", "static_endpoint_configs")


def report(istiod: Dump, envoy: Dump) -> str:
    """A line for each kind that matches, a unified diff for each that does not."""
    loaded = _loaded(envoy)
    kinds = (
        ("Clusters", _clusters, ""),
        ("Listeners", _listeners, ""),
        ("Routes", _routes, f" (RDS last loaded at {loaded})" if loaded else ""),
        ("Endpoints", _endpoints, ""),
    )
    return "".join(_compared(title, of(istiod), of(envoy), note) for title, of, note in kinds)


def _compared(title: str, istiod: Mapping[str, Json], envoy: Mapping[str, Json], note: str) -> str:
    ours, theirs = ({name: _text(each) for name, each in side.items()} for side in (istiod, envoy))
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not differing:
        return f"{title} Match{note}\n"
    before, after = ([line for name in differing for line in side.get(name, [])] for side in (ours, theirs))
    lines = difflib.unified_diff(before, after, f"Istiod {title}", f"Envoy {title}", lineterm="", n=7)
    return "\n".join(lines) + "\n"


def _text(resource: Json) -> list[str]:
    return json.dumps(camel.converted(resource), indent=3, sort_keys=True, ensure_ascii=False).splitlines()


def _named(resources: Iterable[Json], field: str = "name") -> dict[str, Json]:
    return {
        str(each.get(field, "")): {key: value for key, value in each.items() if key != "@type"} for each in resources
    }


def _dynamic(dump: Dump) -> Dump:
    """Without what Envoy was started with: istiod knows nothing of that."""
    sections = {
        kind: {key: value for key, value in section.items() if key not in _STATIC}
        for kind, section in dump.sections.items()
    }
    return Dump(sections, dump.whole)


def _clusters(dump: Dump) -> dict[str, Json]:
    return _named(_dynamic(dump).clusters())


def _listeners(dump: Dump) -> dict[str, Json]:
    return _named(_dynamic(dump).listeners())


def _routes(dump: Dump) -> dict[str, Json]:
    return _named(_dynamic(dump).routes())


def _endpoints(dump: Dump) -> dict[str, Json]:
    """Envoy adds its own defaults to what it was sent; they say nothing."""
    return {name: _plain(each) for name, each in _named(_dynamic(dump).endpoints(), "cluster_name").items()}


def _plain(assignment: Json) -> dict[str, Any]:
    return {key: value for key, value in assignment.items() if key not in ("policy", "named_endpoints")}


def _loaded(envoy: Dump) -> str:
    """When Envoy took its newest route table."""
    held = envoy.section("RoutesConfigDump").get("dynamic_route_configs", ())
    return max((str(each.get("last_updated", "")) for each in held), default="")

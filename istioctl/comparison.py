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
    return json.dumps(_numbers(camel.converted(resource)), indent=3, sort_keys=True, ensure_ascii=False).splitlines()


def _numbers(value: Any) -> Any:
    """Whole numbers without a fraction: 100 and 100.0 are one number, written by two JSON writers."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
    return Dump(sections, dump.whole, dump.name)


def _clusters(dump: Dump) -> dict[str, Json]:
    return _named(_dynamic(dump).clusters())


def _listeners(dump: Dump) -> dict[str, Json]:
    return _named(_dynamic(dump).listeners())


def _routes(dump: Dump) -> dict[str, Json]:
    return _named(_dynamic(dump).routes())


def _endpoints(dump: Dump) -> dict[str, Json]:
    """Of clusters that ask for them. Envoy repeats its own defaults beside what it was sent, so only what counts."""
    asking = {_service(each) for each in _dynamic(dump).clusters() if each.get("type") == "EDS"}
    found = _named(_dynamic(dump).endpoints(), "cluster_name")
    return {name: {"cluster_name": name, "endpoints": _groups(found[name])} for name in asking & found.keys()}


def _service(cluster: Json) -> str:
    return str(cluster.get("eds_cluster_config", {}).get("service_name") or cluster.get("name", ""))


def _groups(assignment: Json) -> list[dict[str, Any]]:
    return [
        {
            "locality": each.get("locality", {}),
            "priority": each.get("priority", 0),
            "load_balancing_weight": each.get("load_balancing_weight", 1),
            "lb_endpoints": [_endpoint(lb) for lb in each.get("lb_endpoints", ())],
        }
        for each in assignment.get("endpoints", ())
    ]


def _endpoint(lb: Json) -> dict[str, Any]:
    return {
        "address": lb.get("endpoint", {}).get("address", {}),
        "health_status": lb.get("health_status", "HEALTHY"),
        "load_balancing_weight": lb.get("load_balancing_weight", 1),
    }


def _loaded(envoy: Dump) -> str:
    """When Envoy took its newest route table."""
    held = envoy.section("RoutesConfigDump").get("dynamic_route_configs", ())
    return max((str(each.get("last_updated", "")) for each in held), default="")

"""Whole configurations by chance, and the small mesh that they are about. A seed always gives the same one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crds import parse, path, registry
from crds.diagnostic import Severity
from crds.key import NETWORKING, SECURITY
from crds.meta import Object
from tests.generated.maker import Document, Maker
from tests.generated.rules import NEEDED, RULES
from tests.mesh import fleet

_KINDS: Mapping[str, float] = {
    "VirtualService": 2.0,
    "DestinationRule": 1.5,
    "Gateway": 0.8,
    "ServiceEntry": 1.0,
    "Sidecar": 0.4,
    "EnvoyFilter": 0.4,
    "PeerAuthentication": 0.4,
}
"""How many of a kind a configuration has on average; the most are twice as many."""


def configuration(seed: int, *, full: float = 0.3, odd: float = 0.02) -> list[Document]:
    """The documents of one configuration, beside those of ``WORLD``."""
    maker = Maker(seed, RULES, NEEDED, full=full, odd=odd)
    made = []
    for kind, average in _KINDS.items():
        for number in range(sum(maker.chance(average / 4) for _ in range(4 if average > 1 else 2)) or (average > 1)):
            name = f"generated-{kind.lower()}-{number}"
            made.append(generated(maker, kind, name))
    return made


def accepted(document: Document) -> Object | None:
    """The object of a document, less what the checks refuse of it; None where nothing is left to take away."""
    for _ in range(8):
        parsed = parse.parse(document)
        if parsed.object is not None:
            return parsed.object
        errors = [found.field for found in parsed.diagnostics if found.severity is Severity.ERROR]
        assert errors, "no object, and nobody says why"
        if not sum(_forget(document, each) or _forget(document, path.parent(each)) for each in errors):
            return None
    return None


def _forget(document: Any, field: str) -> bool:
    """Take a field out of a document, by its path; whether it was there."""
    steps = [key or number or name for key, number, name in re.findall(r'\["(.*?)"\]|\[(\d+)\]|([^.\[\]]+)', field)]
    if steps in ([], ["spec"]):
        return False
    for step in steps[:-1]:
        document = _child(document, step)
    if isinstance(document, list) and steps[-1].isdigit() and int(steps[-1]) < len(document):
        del document[int(steps[-1])]
        return True
    return isinstance(document, dict) and document.pop(steps[-1], None) is not None


def _child(document: Any, step: str) -> Any:
    if isinstance(document, list):
        return document[int(step)] if step.isdigit() and int(step) < len(document) else None
    return document.get(step) if isinstance(document, dict) else None


def generated(maker: Maker, kind: str, name: str) -> Document:
    """The document of one object."""
    group = SECURITY if kind == "PeerAuthentication" else NETWORKING
    info = registry.KINDS[group, kind]
    assert info.model is not None
    spec = info.model.model_fields["spec"].annotation
    assert isinstance(spec, type)
    metadata = {"name": name, "namespace": maker.random.choice(("default", "default", "other", "istio-system"))}
    return {
        "apiVersion": f"{group}/{info.versions[0]}",
        "kind": kind,
        "metadata": {**metadata, "creationTimestamp": f"2024-01-0{maker.random.randrange(1, 9)}T00:00:00Z"},
        "spec": maker.model(spec),
    }


_PORTS_OF_WEB = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "grpc", "port": 81},
    {"name": "tcp", "port": 9000},
    {"name": "tls", "port": 443},
    {"name": "plain", "port": 8000},
]
_PLAIN = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
WORLD = (
    fleet.kube_service("web", ports=_PORTS_OF_WEB),
    fleet.kube_service("shop", spec={"clusterIP": "10.0.0.2"}),
    fleet.kube_service("db", "other", ports=[{"name": "tcp-db", "port": 9000}], spec={"clusterIP": "None"}),
    fleet.pod("web-1", "10.1.0.1", labels={"version": "v1"}),
    fleet.pod("shop-1", "10.1.0.2"),
    fleet.pod("gw-1", "10.1.0.3"),
    fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")),
    fleet.slice_of("shop", fleet.backend("10.1.0.2", "shop-1")),
    fleet.slice_of("db", fleet.backend("10.1.0.4"), namespace="other", ports=[{"name": "tcp-db", "port": 9000}]),
    fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [_PLAIN]}),
)
"""What every configuration is about: two Services with pods, a headless one elsewhere, and a gateway's pod."""
PROXIES = (
    fleet.proxy("web-1", ip="10.1.0.1", LABELS={"app": "web", "version": "v1"}),
    fleet.proxy("gw-1", kind="router", ip="10.1.0.3", LABELS={"app": "gw"}),
)

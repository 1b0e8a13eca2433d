"""PeerAuthentication: port-level modes need a selector (features row N1)."""

from __future__ import annotations

from crds import path
from crds.checks import labels, values
from crds.checks.findings import Findings
from crds.peer_authentication import PeerAuthentication


def check(item: PeerAuthentication, found: Findings) -> None:
    """Everything that one PeerAuthentication can be wrong about."""
    spec = item.spec
    selects = spec.selector is not None and bool(spec.selector.match_labels)
    if spec.port_level_mtls and not selects:
        found.error("spec.portLevelMtls", "modes of ports need a selector")
    if "port_level_mtls" in spec.model_fields_set and not spec.port_level_mtls:
        found.refuse("spec.portLevelMtls", "has no ports")
    for port in spec.port_level_mtls:
        found.check(path.child("spec.portLevelMtls", str(port)), values.port(port))
    if spec.selector is not None:
        labels.selector(found, "spec.selector.matchLabels", spec.selector.match_labels)

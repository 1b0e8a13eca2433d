"""PeerAuthentication: port-level modes need a selector (features row N1)."""

from __future__ import annotations

from crds import path
from crds.checks import values
from crds.checks.findings import Findings
from crds.peer_authentication import PeerAuthentication


def check(item: PeerAuthentication, found: Findings) -> None:
    """Everything that one PeerAuthentication can be wrong about."""
    spec = item.spec
    selects = spec.selector is not None and bool(spec.selector.match_labels)
    if spec.port_level_mtls and not selects:
        found.error("spec.portLevelMtls", "modes of ports need a selector")
    for port in spec.port_level_mtls:
        found.check(path.child("spec.portLevelMtls", str(port)), values.port(port))
    for name, value in (spec.selector.match_labels if spec.selector is not None else {}).items():
        if not name or "*" in name + value:
            found.error(path.child("spec.selector.matchLabels", name), "a selector has no wildcards and no empty names")

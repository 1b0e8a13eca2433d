"""Checks of one object, beyond what its model says (Istio's own validation is the guide).

Findings that need other objects (a missing subset, two rules for one host) belong to istiod.mesh.
"""

from __future__ import annotations

from crds import destination_rule as dr
from crds import gateway as gw
from crds import peer_authentication as pa
from crds import service_entry as se
from crds import sidecar as sc
from crds import virtual_service as vs
from crds.checks import gateway, peer_authentication, service_entry, sidecar, traffic_policy, virtual_service
from crds.checks.findings import Findings
from crds.diagnostic import Diagnostic
from crds.meta import Object


def check(item: Object) -> tuple[Diagnostic, ...]:
    """Findings about one object that its model accepted."""
    found = Findings(item.key)
    if isinstance(item, vs.VirtualService):
        virtual_service.check(item, found)
    elif isinstance(item, dr.DestinationRule):
        traffic_policy.check(item, found)
    elif isinstance(item, gw.Gateway):
        gateway.check(item, found)
    elif isinstance(item, se.ServiceEntry):
        service_entry.check(item, found)
    elif isinstance(item, sc.Sidecar):
        sidecar.check(item, found)
    elif isinstance(item, pa.PeerAuthentication):
        peer_authentication.check(item, found)
    return found.all()

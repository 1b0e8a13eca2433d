"""Checks of one object, beyond what its model says (Istio's own validation is the guide).

Findings that need other objects (a missing subset, two rules for one host) belong to istiod.mesh.
"""

from __future__ import annotations

from crds.diagnostic import Diagnostic
from crds.meta import Object


def check(item: Object) -> tuple[Diagnostic, ...]:
    """Findings about one object that its model accepted."""
    return ()

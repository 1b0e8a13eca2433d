"""Where the mesh's CA is kept in Kubernetes, and by which annotations its replacement is asked for and told.

istiod keeps it, operators and istioctl read it (docs/certificates.md).
"""

from __future__ import annotations

from typing import Final

OWN_CA: Final = "istio-ca-secret"
"""The Secret of the CA that istiod made."""
PLUGGED_IN: Final = "cacerts"
"""The Secret of the operator's own CA."""
ROTATION: Final = "istio-ca-rotation"
"""The Secret with the state of a replacement; it may hold a private key."""
STATE: Final = "state"
"""The key of that state in it."""
ROTATE: Final = "ca.istio.io/rotate"
"""Annotation of OWN_CA, with any value, that asks for a new self-signed root."""
STATUS: Final = "ca.istio.io/status"
"""Annotation of ROTATION: what a replacement waits for; absent where there is none."""

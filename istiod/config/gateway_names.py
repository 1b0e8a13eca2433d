"""Which DNS names of gateways of networks are looked up, and the name by which the answers stand beside the objects.

The mesh says which it wants (istiod.mesh.networks), istiod.gateway_names looks them up, the store keeps what came. Pure
data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crds.key import NETWORKING, ConfigKey

CHANGED: Final = ConfigKey(NETWORKING, "GatewayName", "", "gateway-names")
"""What the store says has changed when a name has other addresses."""

Addresses = Mapping[str, tuple[str, ...]]
"""The IP addresses of each name that ever had some, sorted."""

Wishes = Mapping[str, tuple[tuple[ConfigKey, str], ...]]
"""Names, and what says them: object and field path."""

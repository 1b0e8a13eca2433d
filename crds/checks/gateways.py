"""Names of Gateways in VirtualServices (features row F1; Istio: validateGatewayNames)."""

from __future__ import annotations

from collections.abc import Sequence

from crds.checks import values
from crds.checks.findings import Findings


def check(found: Findings, field: str, names: Sequence[str]) -> None:
    """``<namespace>/<name>``, ``<name>`` of the own namespace, or ``mesh``; a domain name is the older form."""
    for index, gateway in enumerate(names):
        place = f"{field}[{index}]"
        namespace, slash, name = gateway.partition("/")
        if not slash and "." in gateway:
            found.warning(place, f"{gateway!r}: the form <namespace>/<name> is preferred")
            found.check(place, values.domain(gateway))
        elif namespace == "." and values.is_label(name):
            found.refuse(place, f"{gateway!r}: the form <name> is for gateways of the own namespace")
        elif not values.is_label(namespace) or (slash and not values.is_label(name)):
            found.error(place, f"{gateway!r} is no gateway: <namespace>/<name> or <name>")

"""exportTo: who sees an object (features rows F1, G3, H6)."""

from __future__ import annotations

from collections.abc import Sequence

from crds.checks import values
from crds.checks.findings import Findings

_ALL = "*"
_SELF = "."
_NONE = "~"


def check(found: Findings, export_to: Sequence[str], *, may_be_none: bool = False, only_own: bool = False) -> None:
    """``may_be_none``: "~" is allowed (ServiceEntry). ``only_own``: no other namespace may see the object."""
    own = found.key.namespace
    namespaces = [own if entry == _SELF else entry for entry in export_to]
    for index, entry in enumerate(namespaces):
        field = f"spec.exportTo[{index}]"
        if entry in namespaces[:index]:
            found.error(field, f"{entry} stands twice in exportTo")
        elif entry == _NONE and not may_be_none:
            found.error(field, "~ (nobody) is for ServiceEntry only")
        elif entry not in {_ALL, _NONE} and not values.is_label(entry):
            found.error(field, f"{entry!r} is no namespace")
    for everyone in (_ALL, _NONE):
        if everyone in namespaces and len(namespaces) > 1:
            found.error("spec.exportTo", f"{everyone} excludes all other entries")
    if only_own and set(namespaces) - {own}:
        found.error("spec.exportTo", "a workload selector limits the rule to its own namespace")

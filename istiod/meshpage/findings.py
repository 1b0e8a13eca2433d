"""What is wrong with the configuration, as a list that can be searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crds.diagnostic import Diagnostic, Severity
from istiod.meshpage import listing
from istiod.meshpage.listing import Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finding, as texts; empty parts are unknown."""

    severity: str
    code: str
    object: str
    field: str
    reason: str
    place: str


def shown(found: Sequence[Diagnostic], query: str, severity: str, page: int) -> Listing[Row]:
    """Those that a search finds: errors first, each in the order given."""
    rows = (
        row(each) for level in Severity for each in found if each.severity is level and severity in ("", level.value)
    )
    return listing.paged(
        [one for one in rows if listing.fits(query, one.object, one.code, one.field, one.reason, one.place)], page
    )


def row(found: Diagnostic) -> Row:
    """A finding in words."""
    return Row(
        severity=found.severity.value,
        code=found.code.value,
        object=str(found.key) if found.key else "",
        field=found.field,
        reason=found.message,
        place=str(found.position) if found.position else "",
    )


def counted(found: Sequence[Diagnostic]) -> Mapping[str, int]:
    """How many there are of each severity that there is."""
    return {level.value: many for level in Severity if (many := sum(each.severity is level for each in found))}

"""Who comes first where objects contradict each other: the older one, of equals the first by name (as in Istio)."""

from __future__ import annotations

from datetime import UTC, datetime

Age = tuple[datetime, str, str]
"""What sorts from the oldest to the youngest: creation time, name, namespace."""

_OLDEST = datetime.min.replace(tzinfo=UTC)


def age(created: datetime | None, name: str, namespace: str) -> Age:
    """An object's place among others. One without a creation time, as in most files, counts as oldest."""
    return (created or _OLDEST, name, namespace)

"""Which object, and which field of it, caused a piece of configuration (features row D15).

An origin never holds a line or a generation: both change without a change of meaning and would drain listeners. A
reader looks the line up in the source.
"""

from __future__ import annotations

from dataclasses import dataclass

from crds.key import ConfigKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """An object and a field path in it (``spec.http[0]``); "" is the whole object. Only routes carry a field path."""

    key: ConfigKey
    field: str = ""

    def child(self, field: str) -> Origin:
        """A field below this one."""
        return Origin(key=self.key, field=f"{self.field}.{field}")

    def __str__(self) -> str:
        return f"{self.key}#{self.field}" if self.field else str(self.key)

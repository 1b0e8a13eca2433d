"""A change on its way from the store to the proxies."""

from __future__ import annotations

from dataclasses import dataclass

from crds.key import ConfigKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """The keys that changed since the last push, merged.

    ``since`` is the monotonic time in seconds of the oldest change in it: what convergence is measured from.
    """

    changed: frozenset[ConfigKey]
    since: float

    def merge(self, other: PushRequest) -> PushRequest:
        """Both changes as one."""
        return PushRequest(changed=self.changed | other.changed, since=min(self.since, other.since))

"""One string condition: exact, prefix or regex (features row F3)."""

from __future__ import annotations

from crds.checks import values
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.virtual_service import StringMatch

ANY = "*"  # as a regex of withoutHeaders: the header is there at all


def check(found: Findings, field: str, match: StringMatch | None, *, empty_prefix: bool = False) -> None:
    """A prefix (but for a uri's) or regex must not be empty, and a regex must be RE2's."""
    if match is None:
        return
    given = [name for name in ("exact", "prefix", "regex") if getattr(match, name) is not None]
    if len(given) > 1:
        found.error(field, f"only one of {', '.join(given)} may be given")
    for name, value in (("prefix", match.prefix), ("regex", match.regex)):
        if value == "" and not (name == "prefix" and empty_prefix):
            found.error(f"{field}.{name}", "must not be empty")
    if match.regex:
        regex(found, f"{field}.regex", match.regex)


def regex(found: Findings, field: str, pattern: str) -> None:
    """A pattern that Envoy would refuse is an error with its own code."""
    problem = values.regex(pattern)
    if problem is not None:
        found.error(field, problem, Code.BAD_REGEX)

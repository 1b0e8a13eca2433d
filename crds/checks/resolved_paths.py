"""Paths that no request has when rules look at it: proxies resolve ``.`` and ``..`` first (SEC41, SEC44).

A rule for such a path does nothing; one that was to refuse it is no protection. A mesh whose ``pathNormalization`` is
NONE does have such requests, which one object does not say: hence a warning.
"""

from __future__ import annotations

import re
from typing import Final

from crds.checks.findings import Findings
from crds.diagnostic import Code

_DOT: Final = re.compile("%2e", re.IGNORECASE)


def check(found: Findings, field: str, path: str, *, begins: bool = True, ends: bool = True) -> None:
    """Warn of a path; ``begins`` and ``ends`` are False where a request's may go on there."""
    steps = _DOT.sub(".", path.partition("?")[0]).split("/")
    whole = steps[0 if begins else 1 : len(steps) if ends else -1]
    if any(step in (".", "..") for step in whole):
        message = f"no request has the path {path!r}: proxies resolve '.' and '..' before they look"
        found.warning(field, f"{message}, unless pathNormalization of the mesh is NONE", Code.UNREACHED_PATH)

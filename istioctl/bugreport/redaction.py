"""What a report must not tell: Secrets, keys, tokens, and what looks like a password. Pure.

Of a Secret stays which keys it has and how long their values are. Texts lose private keys (PEM, JWK) and tokens
wherever they stand; objects lose the values of variables whose names say that they are secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of an object, a Secret's values included."""
_REDACTED: Final = "[redacted]"
_SECRET: Final = re.compile(r"passw|token|secret|credential|api_?key|private", re.IGNORECASE)
_PEM: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{0,30})PRIVATE KEY-----.{0,20000}?(?:-----END \1PRIVATE KEY-----|$)", re.DOTALL
)
_JWK: Final = re.compile(rb'(\\{0,4}"(?:k|d|p|q|dp|dq|qi)\\{0,4}"\s{0,4}:\s{0,4}\\{0,4}")[A-Za-z0-9_-]{16,}')
_TOKEN: Final = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")
_BEARER: Final = re.compile(rb"((?:Bearer|Basic) )[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)

Json = Mapping[str, Any]


def text(said: bytes) -> bytes:
    """A text without private keys and tokens."""
    said = _PEM.sub(rb"[private \1key redacted]", said)
    said = _JWK.sub(rb"\1[redacted]", said)
    return _BEARER.sub(rb"\1[redacted]", _TOKEN.sub(b"[token redacted]", said))


def item(found: Json) -> Json:
    """An object of Kubernetes."""
    metadata = {key: value for key, value in (found.get("metadata") or {}).items() if key != "managedFields"}
    if _APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {**metadata["annotations"], _APPLIED: _REDACTED}
    kept = {**found, "metadata": metadata}
    if found.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if field in kept:
                kept[field] = {key: f"[{len(str(v))} characters redacted]" for key, v in (kept[field] or {}).items()}
        return kept
    whole: Json = _variables(kept)
    return whole


def _variables(found: Any) -> Any:
    """The same, with the values of variables left out that are called as secrets are."""
    if isinstance(found, list):
        return [_variables(each) for each in found]
    if not isinstance(found, dict):
        return found
    if isinstance(found.get("value"), str) and _SECRET.search(str(found.get("name", ""))):
        return {**found, "value": _REDACTED}
    return {key: _variables(each) for key, each in found.items()}

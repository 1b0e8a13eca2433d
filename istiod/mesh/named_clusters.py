"""Names of the mesh's clusters in what EnvoyFilters set: as a value, or somewhere in a script.

A resource that an EnvoyFilter changed may name clusters anywhere, in types that nobody here knows. By their shape names
of clusters are found all the same; whether there is such a cluster is for others to ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

_NAME: Final = re.compile(r"(?:in|out)bound(?:\|\d*\|[^|\s\"']*\||_\.\d*_\.[^|\s\"']*?_\.)[\w.*-]*")
"""``outbound|80|v1|HOST``, ``inbound|8080||`` and ``outbound_.80_.v1_.HOST``."""


_REMEMBERED: Final = 16_384
"""Characters of a value up to which it is worth to remember, and not too much to hold."""


def said(value: str) -> frozenset[str]:
    """Those in a value that was read as JSON."""
    return _found(value) if len(value) <= _REMEMBERED else _found.__wrapped__(value)


@lru_cache(maxsize=1024)
def _found(value: str) -> frozenset[str]:
    return frozenset(name for text in texts(json.loads(value)) for name in _NAME.findall(text)) if value else _NONE


_NONE: Final[frozenset[str]] = frozenset()


def texts(value: Any) -> Iterator[str]:
    """Every string of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)

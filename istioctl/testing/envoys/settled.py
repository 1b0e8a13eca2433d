"""Waits, in istiod's pod, until every proxy has what the mesh's pods are: ``python -m ...settled PROXIES SECONDS``.

A pod is ready a moment before the others hear of it; a request in that moment is answered 503.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Final

from wire import names

_PAGES: Final = f"http://127.0.0.1:{names.DEBUG_PORT}/debug/"
_LOOK: Final = 0.1


def is_settled(proxies: list[dict[str, Any]], objects: list[dict[str, Any]], count: int) -> bool:
    """Whether so many proxies are connected and have acknowledged all, and every endpoint is ready."""
    ready = all(
        endpoint["conditions"]["ready"]
        for item in objects
        if item["kind"] == "EndpointSlice"
        for endpoint in item["endpoints"]
    )
    return ready and len(proxies) >= count and all(proxy["settled"] for proxy in proxies)


def _page(name: str) -> Any:
    with urllib.request.urlopen(_PAGES + name, timeout=5) as answer:  # noqa: S310 (our own page)
        return json.load(answer)


def main(count: str, seconds: str) -> int:
    """0 once it is so; 1 where it was not in time."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            if is_settled(_page("syncz"), _page("configz"), int(count)):
                return 0
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(_LOOK)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

"""Starts one service: `python -m examples.bookinfo SERVICE [VERSION]`."""

from __future__ import annotations

import sys

from aiohttp import web

from examples.bookinfo import details, productpage, ratings, reviews, service

SERVICES = {
    "details": details.application,
    "productpage": productpage.application,
    "ratings": ratings.application,
    "reviews": reviews.application,
}


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; 2 for a name that is none of the services."""
    name, version = (*arguments, "v1")[:2] if arguments else ("", "v1")
    if name not in SERVICES:
        print(f"usage: python -m examples.bookinfo {{{','.join(SERVICES)}}} [VERSION]", file=sys.stderr)
        return 2
    web.run_app(SERVICES[name](version), port=service.PORT, print=None, handle_signals=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

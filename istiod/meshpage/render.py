"""Values into HTML. Names and messages are hostile input: everything is escaped, and the browser runs no inline script.

The security policy that goes with every answer forbids what the templates do without: inline scripts and styles,
frames, and anything from another host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import jinja2

SECURITY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer (W3C Content Security Policy Level 3)."""

_PAGES: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("istiod.meshpage"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, values: Mapping[str, Any]) -> str:
    """A whole page.

    Raises:
        jinja2.UndefinedError: a template names a value that is not there: a bug.
    """
    return _PAGES.get_template(template).render(values)


def link(path: str, **parameters: object) -> str:
    """An address with those parameters that say something."""
    said = urlencode({name: value for name, value in parameters.items() if value not in ("", None, 1)})
    return f"{path}?{said}" if said else path


def rate(value: float) -> str:
    """Requests or bytes a second, with three digits."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if value >= 1 or not value else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    """A latency; a dash where nothing was measured."""
    if value is None:
        return "-"
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"  # noqa: PLR2004 (a second)


def percent(part: float) -> str:
    """A part of 1."""
    return f"{100 * part:.3g}%"


def span(half: float | None, most: float | None) -> str:
    """Two latencies of one edge, p50 and p99, with the unit once where both have the same."""
    first, second = milliseconds(half), milliseconds(most)
    value, _, unit = first.partition(" ")
    return f"{value if unit and second.endswith(unit) and not second.endswith(f'm{unit}') else first} / {second}"


_PAGES.filters |= {"rate": rate, "ms": milliseconds, "percent": percent}
_PAGES.globals |= {"link": link}

"""Host names: how a short one is completed, and which pattern holds which host.

One place, because VirtualService, DestinationRule, Gateway and ServiceEntry must agree. Source: Istio's
``pkg/config/host`` and its VirtualService reference ("short names"). Ports in authorities are left to the routes.
"""

from __future__ import annotations

from collections.abc import Iterable

_WILDCARD = "*"


def resolve(name: str, namespace: str, dns_domain: str) -> str:
    """The full name of ``name`` as an object in ``namespace`` means it.

    A name without a dot is a Service of that namespace; a dotted name, a pattern and an IPv6 address stand as they are.
    """
    if not name or "." in name or ":" in name or name.startswith(_WILDCARD):
        return name
    return f"{name}.{namespace}.svc.{dns_domain}"


def is_wildcard(host: str) -> bool:
    """Whether it stands for more than one host."""
    return host.startswith(_WILDCARD)


def matches(pattern: str, host: str) -> bool:
    """Whether ``pattern`` (exact, ``*.suffix`` or ``*``) holds ``host``, which may be a pattern itself."""
    if is_wildcard(pattern):
        return host.endswith(pattern[1:])
    return pattern == host


def specificity(pattern: str) -> tuple[bool, int, str]:
    """Sort key, least specific first: patterns before exact names, short before long, then by name."""
    return (not is_wildcard(pattern), len(pattern), pattern)


def most_specific(candidates: Iterable[str], host: str) -> str | None:
    """The most specific of the candidates that hold ``host``, or None."""
    return max((c for c in candidates if matches(c, host)), key=specificity, default=None)

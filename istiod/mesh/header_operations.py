"""Changes of headers on the way, from VirtualServices (features row F16).

``Host`` and ``:authority`` are no headers to Envoy's operations: setting one rewrites the authority (Istio:
TranslateHeadersOperations). Other pseudo headers cannot be changed and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crds import virtual_service
from istiod.mesh.route import HeaderOperations, Headers

Pairs = tuple[tuple[str, str], ...]

_UNCHANGED = Headers()
_AUTHORITY = frozenset({":authority", "host"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Header changes, and the authority that they ask for ("" for none)."""

    headers: Headers = _UNCHANGED
    authority: str = ""


NOTHING = Operations()


def convert(said: virtual_service.Headers | None) -> Operations:
    """The operations of a rule or of one destination."""
    request = (said.request if said else None) or virtual_service.HeaderOperations()
    response = (said.response if said else None) or virtual_service.HeaderOperations()
    return Operations(
        headers=Headers(request=_one_way(request), response=_one_way(response)),
        authority=_authority(request.set) or _authority(request.add),
    )


def join(first: Headers, then: Headers) -> Headers:
    """Both as one: what ``then`` sets replaces what ``first`` set or added."""
    return Headers(request=_join(first.request, then.request), response=_join(first.response, then.response))


def with_authority(headers: Headers, authority: str) -> Headers:
    """The changes, and the authority set as ``host``: the only way for one destination of several."""
    request = replace(headers.request, set=(*headers.request.set, ("host", authority)))
    return replace(headers, request=request)


def _join(first: HeaderOperations, then: HeaderOperations) -> HeaderOperations:
    replaced = {name.lower() for name, _ in then.set}
    return HeaderOperations(
        set=(*_without(first.set, replaced), *then.set),
        add=(*_without(first.add, replaced), *then.add),
        remove=(*first.remove, *(name for name in then.remove if name not in first.remove)),
    )


def _without(pairs: Pairs, names: set[str]) -> Pairs:
    return tuple(pair for pair in pairs if pair[0].lower() not in names)


def _one_way(said: virtual_service.HeaderOperations) -> HeaderOperations:
    return HeaderOperations(
        set=_pairs(said.set), add=_pairs(said.add), remove=tuple(name for name in said.remove if _changeable(name))
    )


def _pairs(said: Mapping[str, str]) -> Pairs:
    return tuple(sorted((name, value) for name, value in said.items() if _changeable(name)))


def _changeable(name: str) -> bool:
    return not name.startswith(":") and name.lower() not in _AUTHORITY


def _authority(said: Mapping[str, str]) -> str:
    return next((said[name] for name in sorted(said) if name.lower() in _AUTHORITY), "")

"""Cross-origin policies of VirtualServices (features row F15)."""

from __future__ import annotations

from typing import Final

from crds import virtual_service
from istiod.mesh import string_matches
from istiod.mesh.route import Cors, MatchKind, StringMatch

_PREFLIGHTS: Final[dict[str, bool | None]] = {"UNSPECIFIED": None, "FORWARD": True, "IGNORE": False}
_EVERY_ORIGIN: Final = StringMatch(kind=MatchKind.REGEX, value=".*")


def convert(said: virtual_service.CorsPolicy | None) -> Cors | None:
    """The policy, or None. The old ``allowOrigin`` counts where ``allowOrigins`` is empty; its "*" is every origin."""
    if said is None:
        return None
    new = tuple(found for origin in said.allow_origins if (found := string_matches.convert(origin)) is not None)
    old = tuple(
        _EVERY_ORIGIN if origin == "*" else StringMatch(kind=MatchKind.EXACT, value=origin)
        for origin in said.allow_origin
    )
    return Cors(
        allow_origins=new or old,
        allow_methods=said.allow_methods,
        allow_headers=said.allow_headers,
        expose_headers=said.expose_headers,
        max_age=said.max_age,
        allow_credentials=said.allow_credentials,
        forward_unmatched_preflights=_PREFLIGHTS[said.unmatched_preflights],
    )

"""Comparisons of strings as VirtualServices write them, made into ours (features rows F3, F4).

Regular expressions are checked where objects are read (crds.checks), with RE2, the engine that runs them.
"""

from __future__ import annotations

from crds import virtual_service
from istiod.mesh.route import MatchKind, StringMatch

_ANYTHING = "*"


def convert(said: virtual_service.StringMatch, *, ignore_case: bool = False) -> StringMatch | None:
    """The comparison, or None when it says nothing.

    ``ignore_case`` has no effect on regular expressions, as in Envoy.
    """
    if said.exact is not None:
        return StringMatch(kind=MatchKind.EXACT, value=said.exact, ignore_case=ignore_case)
    if said.prefix is not None:
        return StringMatch(kind=MatchKind.PREFIX, value=said.prefix, ignore_case=ignore_case)
    if said.regex is not None:
        return StringMatch(kind=MatchKind.REGEX, value=said.regex)
    return None


def convert_value(said: virtual_service.StringMatch) -> StringMatch:
    """The comparison of a header or query parameter: one that says nothing asks for presence only.

    The regex ``*`` counts as nothing (Istio: canBeConvertedToPresentMatch), as do an empty prefix and an empty regex,
    which every value has. An empty exact text is a value.
    """
    found = convert(said)
    nothing = {MatchKind.PREFIX: ("",), MatchKind.REGEX: ("", _ANYTHING)}
    if found is None or found.value in nothing.get(found.kind, ()):
        return StringMatch(kind=MatchKind.PRESENT)
    return found

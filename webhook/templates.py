"""Templates by name: the built-in ones, and those that an administrator wrote as plain YAML (features A6). Pure.

Text with actions of Go's template language cannot run here, on purpose: what a pod says must not become part of a text
that is then read as fields. Such a template is reported, and a pod that asks for it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crds import text
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import ConfigKey

SIDECAR: Final = "sidecar"
GATEWAY: Final = "gateway"
BUILT_IN: Final = (SIDECAR, GATEWAY)
_PROXYLESS: Final = ("grpc-simple", "grpc-agent")
_OF_ISTIO: Final = (*BUILT_IN, *_PROXYLESS, "waypoint", "kube-gateway", "agentgateway")
"""Names that Istio's chart fills with text of its own: that text is not the user's, and no reason to warn."""
_ACTION: Final = "{{"


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """What a pod may ask for. ``overlays`` are pods in part, merged over the pod; ``unusable`` says why by name."""

    overlays: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: tuple[str, ...] = (SIDECAR,)

    def named(self, asked: str) -> tuple[str, ...]:
        """The templates that a comma list of names and aliases stands for; the default where it is empty."""
        names = [each.strip() for each in asked.split(",") if each.strip()] or self.defaults
        return tuple(dict.fromkeys(name for each in names for name in self.aliases.get(each, (each,))))

    def problem(self, name: str) -> str:
        """Why a template cannot be used; "" where it can."""
        if name in self.overlays or (name in BUILT_IN and name not in self.unusable):
            return ""
        if name in _PROXYLESS:
            return f"template {name!r} is for gRPC without a proxy, which this control plane does not serve"
        known = ", ".join(sorted({*BUILT_IN, *self.overlays, *self.aliases}))
        return self.unusable.get(name, f"there is no template {name!r}; there are {known}")


def read(
    given: Mapping[str, str] | tuple[str, ...], key: ConfigKey, place: str
) -> tuple[Mapping[str, Mapping[str, object]], Mapping[str, str], tuple[Diagnostic, ...]]:
    """(overlays by name, why others cannot be used, findings) of a map from name to text, or of names alone."""
    texts = given if isinstance(given, Mapping) else dict.fromkeys(given, "")
    overlays: dict[str, Mapping[str, object]] = {}
    unusable: dict[str, str] = {}
    for name, written in texts.items():
        if name in _OF_ISTIO and (not written.strip() or _ACTION in written):
            continue
        overlay = _overlay(written)
        if isinstance(overlay, str):
            unusable[name] = f"template {name!r} {overlay}"
        else:
            overlays[name] = overlay
    return overlays, unusable, tuple(_findings(unusable, key, place))


def _overlay(written: str) -> Mapping[str, object] | str:
    if _ACTION in written:
        return "has actions of Go's template language, which do not run here; plain YAML does"
    try:
        found = text.load(written)
    except text.UnreadableError as problem:
        return f"is no YAML: {problem}"
    if not isinstance(found, Mapping) or not found.keys() <= {"metadata", "spec"}:
        return "is no part of a pod: it has to be an object of metadata and spec"
    wrong = [name for name, value in found.items() if not isinstance(value, Mapping)]
    return f"is no part of a pod: {wrong[0]} is no object" if wrong else found


def _findings(unusable: Mapping[str, str], key: ConfigKey, place: str) -> Iterator[Diagnostic]:
    for name, reason in unusable.items():
        yield warning(Code.NOT_SUPPORTED, key, f"{place}.{name}", reason)

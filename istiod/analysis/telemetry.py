"""Telemetries without providers, that select no pod, or the same pods as others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message, sharing
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_LABELS: Final = ("selector", "matchLabels")


def _selector(one: Resource) -> Mapping[str, str]:
    return fields.labels(one.spec, *_LABELS)


def _providers(known: Collection) -> Iterator[Message]:
    if fields.dig(known.mesh, "defaultProviders", "accessLogging"):
        return
    for one in known.of(kinds.TELEMETRY):
        for log in fields.records(one.spec, "accessLogging"):
            if not fields.dig(log, "providers") and fields.dig(log, "disabled") is not True:
                yield message.make(catalogue.EMPTY_PROVIDERS, one, one.name, one.namespace)


def _selectors(known: Collection) -> Iterator[Message]:
    by_pod, idle = sharing.selected(known, kinds.TELEMETRY, _selector)
    yield from sharing.idle(idle, _selector, ("spec", *_LABELS))
    yield from sharing.conflicts(by_pod, catalogue.CONFLICTING_TELEMETRIES)


def _defaults(known: Collection) -> Iterator[Message]:
    bare = [
        each
        for each in known.of(kinds.TELEMETRY)
        if not any(fields.dig(each.spec, field) for field in ("selector", "targetRef", "targetRefs"))
    ]
    for namespace, some in sharing.by_namespace(bare).items():
        yield from sharing.defaults(namespace, some, catalogue.TELEMETRIES_WITHOUT_SELECTOR)


def _lightstep(known: Collection) -> Iterator[Message]:
    """The provider is gone from Envoy; Istio reports its use as deprecated."""
    gone = {
        fields.text(each, "name")
        for each in fields.records(known.mesh, "extensionProviders")
        if isinstance(fields.dig(each, "lightstep"), dict)
    }
    for one in known.of(kinds.TELEMETRY) if gone else ():
        for tracing in fields.records(one.spec, "tracing"):
            for provider in fields.records(tracing, "providers"):
                if fields.text(provider, "name") in gone:
                    said = f"The Lightstep provider {fields.text(provider, 'name')} is deprecated; use OpenTelemetry"
                    yield message.make(catalogue.DEPRECATED, one, said)


PROVIDERS: Final = Analyzer(
    name="telemetry.ProviderAnalyzer",
    description="Validates that providers in telemetry resource is valid",
    run=_providers,
)
SELECTORS: Final = Analyzer(
    name="telemetry.SelectorAnalyzer",
    description="Validates that telemetries that define a selector match at least one pod, and that there aren't "
    "multiple telemetry resources that select overlapping pods",
    run=_selectors,
)
DEFAULTS: Final = Analyzer(
    name="telemetry.DefaultSelectorAnalyzer",
    description="Validates that there aren't multiple telemetry resources that have no selector",
    run=_defaults,
)
LIGHTSTEP: Final = Analyzer(
    name="telemetry.LightstepAnalyzer", description="Validates that lightstep provider is still used", run=_lightstep
)

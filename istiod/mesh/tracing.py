"""Who is traced, how often and with which tags: ProxyConfig's word, and Telemetry's (features rows Q5, Q9, R8).

``ProxyTracing`` is what the mesh configuration (``defaultConfig.tracing``) or a proxy itself says; it holds for
whatever collector the proxy has of its own (its bootstrap's), and below what Telemetry says. ``Tracing`` is what
Telemetry and ``defaultProviders`` come to for a workload: a side for calls that it sends, one for those that it gets.
Source: Istio's telemetry.go and tracing.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from pydantic import ValidationError

from crds import proxy_config as api
from crds import span_tags, telemetry
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey
from crds.span_tags import Tag
from istiod.mesh.tracers import Endpoint, Tracer, Tracers

_T = TypeVar("_T")

_WHOLE: Final = 100.0
_TOO_MUCH: Final = 1.0
"""What more than everything comes to, as on Istio."""
_BOTH: Final = "CLIENT_AND_SERVER"
_COLLECTORS: Final = ("zipkin", "datadog")
"""What the agent makes a tracer of in its Envoy's bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTracing:
    """None, 0 and () leave what else holds. ``collector``: bootstraps say where spans go, so tags are for somebody."""

    sampling: float | None = None
    most: int = 0
    tags: tuple[Tag, ...] = ()
    istio_tags: bool | None = None
    collector: bool = False


NOTHING: Final = ProxyTracing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a workload's calls. Without ``tracer`` nothing is traced, and no sampling decided."""

    tracer: Tracer | None = None
    sampling: float | None = None
    tags: tuple[Tag, ...] | None = None
    """None: ProxyConfig's."""
    istio_tags: bool = True
    by_request_id: bool = True
    propagate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Both sides: ``client`` is of calls that the workload sends, and of gateways all; ``server`` of those it gets."""

    client: Side
    server: Side

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What the proxy needs clusters for."""
        used = (side.tracer for side in (self.client, self.server))
        return tuple(dict.fromkeys(at for tracer in used if tracer is not None for at in tracer.endpoints))

    @property
    def services(self) -> tuple[tuple[str, str], ...]:
        """Their hosts, with their namespaces."""
        return tuple(dict.fromkeys((at.host, at.namespace) for at in self.endpoints))


def read(said: api.Tracing | None) -> ProxyTracing:
    """What a configuration says. A sampling of nothing is as good as none said, as on Istio."""
    if said is None:
        return NOTHING
    sampling = said.sampling or None
    return ProxyTracing(
        sampling=_TOO_MUCH if sampling is not None and sampling > _WHOLE else sampling,
        most=said.max_path_tag_length,
        tags=span_tags.read(said.custom_tags),
        istio_tags=said.enable_istio_tags,
        collector=any((getattr(said, name) or {}).get("address") for name in _COLLECTORS),
    )


def of_metadata(said: object) -> ProxyTracing:
    """What a proxy's metadata say (``PROXY_CONFIG``); what cannot be read is as good as nothing."""
    if not isinstance(said, Mapping) or not said.get("tracing"):
        return NOTHING
    try:
        return read(api.Tracing.model_validate(said["tracing"]))
    except ValidationError:
        return NOTHING


def joined(mesh: ProxyTracing, own: ProxyTracing) -> ProxyTracing:
    """Both: what a proxy says itself wins."""
    if own == NOTHING:
        return mesh
    return ProxyTracing(
        sampling=mesh.sampling if own.sampling is None else own.sampling,
        most=own.most or mesh.most,
        tags=own.tags or mesh.tags,
        istio_tags=mesh.istio_tags if own.istio_tags is None else own.istio_tags,
        collector=own.collector or mesh.collector,
    )


def clusters(traced: Tracing | None) -> frozenset[str]:
    """The clusters that spans are sent through."""
    return frozenset(at.cluster for at in traced.endpoints) if traced else frozenset()


def of(tracers: Tracers, said: tuple[telemetry.Tracing, ...]) -> Tracing | None:
    """What Telemetry comes to for a workload; None where nobody says anything.

    Args:
        tracers: the mesh's.
        said: the items of ``spec.tracing`` that hold for it, the widest object's first; later ones win, field by field.
    """
    if not said and not tracers.default:
        return None
    first = Side(tracer=_usable(tracers, tracers.default)) if tracers.default else Side()
    sides, off = {"CLIENT": first, "SERVER": first}, {"CLIENT": False, "SERVER": False}
    for one in said:
        mode = one.match.mode if one.match else _BOTH
        for name in sides if mode == _BOTH else (mode,):
            sides[name] = _changed(sides[name], one, tracers)
            off[name] = _or(one.disable_span_reporting, off[name])
    client, server = (replace(side, tracer=None) if off[name] else side for name, side in sides.items())
    return Tracing(client=client, server=server)


def _usable(tracers: Tracers, name: str) -> Tracer | None:
    found = tracers.of(name)
    return None if found.problem else found


def _changed(side: Side, said: telemetry.Tracing, tracers: Tracers) -> Side:
    """A side as one more item wants it. Tags replace those of wider objects, as on Istio."""
    context = said.disable_context_propagation
    return Side(
        tracer=_usable(tracers, said.providers[0].name) if said.providers else side.tracer,
        sampling=_or(said.random_sampling_percentage, side.sampling),
        tags=span_tags.read(said.custom_tags) if said.custom_tags else side.tags,
        istio_tags=_or(said.enable_istio_tags, side.istio_tags),
        by_request_id=_or(said.use_request_id_for_trace_sampling, side.by_request_id),
        propagate=_or(None if context is None else not context, side.propagate),
    )


def _or(said: _T | None, before: _T) -> _T:
    return before if said is None else said


def findings(tracers: Tracers, mesh: ConfigKey, objects: Iterable[telemetry.Telemetry]) -> Iterator[Diagnostic]:
    """What of providers and tags has no effect: of the mesh configuration, whose key ``mesh`` is, and of Telemetry."""
    if tracers.default and (problem := tracers.of(tracers.default).problem):
        yield warning(Code.UNTRACED, mesh, "data.mesh.defaultProviders.tracing[0]", f"{problem}; nothing is traced")
    for item in objects:
        for index, one in enumerate(item.spec.tracing):
            field = f"spec.tracing[{index}]"
            if one.providers and (problem := tracers.of(one.providers[0].name).problem):
                yield warning(Code.UNTRACED, item.key, f"{field}.providers[0].name", f"{problem}; nothing is traced")
            for name, problem in span_tags.problems(one.custom_tags):
                yield error(Code.BAD_VALUE, item.key, f"{field}.customTags[{name}]", f"{problem}; it is left out")

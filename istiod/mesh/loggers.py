"""Where access logs go: the extension providers of the mesh configuration that take them (features rows Q7, R4).

Source: Istio's telemetry_logging.go. Who logs what is access_logs.py's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from crds import extension_provider
from crds import log_provider as api
from istiod.mesh import provider_services
from istiod.mesh.registry import Registry

BUILT_IN: Final = "envoy"
"""Istio has a provider of this name where the mesh configuration has none."""
STDOUT: Final = "/dev/stdout"
_LONGEST_NAME: Final = 256
_ELSEWHERE: Final = frozenset({"prometheus", "stackdriver"})
"""Built-in names of providers that take no access logs here."""


class Kind(Enum):
    """What a provider speaks."""

    FILE = "file"
    HTTP = "access-log service for requests"
    TCP = "access-log service for connections"
    OTLP = "opentelemetry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Lines of a file or bodies of records. ``text`` and ``fields`` (a JSON object) "" are the default.

    ``json``: the line is a JSON object. ``omit_empty``: what has no value is left out. ``of_mesh``: the mesh
    configuration says what it looks like (accessLogFormat, accessLogEncoding).
    """

    text: str = ""
    fields: str = ""
    json: bool = False
    omit_empty: bool = False
    of_mesh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Logger:
    """A provider. ``path`` is a file's; ``host`` and ``cluster`` of a service are known once it is found.

    ``problem``: why nothing can be sent.
    """

    name: str
    kind: Kind = Kind.FILE
    path: str = STDOUT
    format: Format = field(default_factory=Format)
    service: str = ""
    port: int = 0
    log_name: str = ""
    filter_state: tuple[str, ...] = ()
    request_headers: tuple[str, ...] = ()
    response_headers: tuple[str, ...] = ()
    response_trailers: tuple[str, ...] = ()
    host: str = ""
    namespace: str = ""
    cluster: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loggers:
    """The providers by name, resolved, and the names of the mesh's own."""

    by_name: Mapping[str, Logger] = field(default_factory=dict)
    default: tuple[str, ...] = ()

    def of(self, name: str) -> Logger:
        """A provider by name, which may be one with a problem. As on Istio, upper and lower case are the same."""
        known = self.by_name.get(name.lower())
        if known is not None:
            return known
        if name == BUILT_IN:
            return Logger(name=name, format=Format(of_mesh=True))
        if name in _ELSEWHERE:
            return Logger(name=name, problem=f"{name} takes no access logs")
        return Logger(name=name, problem=f"the mesh configuration has no provider {name!r}")


def read(said: Iterable[extension_provider.ExtensionProvider]) -> tuple[Logger, ...]:
    """The providers that take logs, and those that take none with that problem; of one name the first counts."""
    found: dict[str, Logger] = {}
    for provider in said:
        found.setdefault(provider.name.lower(), _checked(_read(provider)))
    return tuple(found.values())


def _read(said: extension_provider.ExtensionProvider) -> Logger:
    services = ((Kind.HTTP, said.envoy_http_als), (Kind.TCP, said.envoy_tcp_als), (Kind.OTLP, said.envoy_otel_als))
    found = [_service(said.name, kind, one) for kind, one in services if one is not None]
    if said.envoy_file_access_log is not None:
        found.append(_file(said.name, said.envoy_file_access_log))
    return found[0] if found else Logger(name=said.name, problem=f"{said.name} takes no access logs")


def _file(name: str, said: api.EnvoyFileAccessLogProvider) -> Logger:
    plain = said.log_format is None and not said.omit_empty_values
    made = replace(_format(said.log_format), omit_empty=said.omit_empty_values, of_mesh=name == BUILT_IN and plain)
    return Logger(name=name, path=said.path or STDOUT, format=made)


def _service(
    name: str,
    kind: Kind,
    said: api.EnvoyHttpGrpcV3LogProvider | api.EnvoyTcpGrpcV3LogProvider | api.EnvoyOpenTelemetryLogProvider,
) -> Logger:
    found = Logger(name=name, kind=kind, service=said.service, port=said.port, log_name=said.log_name, path="")
    if isinstance(said, api.EnvoyOpenTelemetryLogProvider):
        return replace(found, format=_format(said.log_format))
    found = replace(found, filter_state=said.filter_state_objects_to_log)
    if isinstance(said, api.EnvoyTcpGrpcV3LogProvider):
        return found
    return replace(
        found,
        request_headers=said.additional_request_headers_to_log,
        response_headers=said.additional_response_headers_to_log,
        response_trailers=said.additional_response_trailers_to_log,
    )


def _format(said: api.LogFormat | None) -> Format:
    if said is None:
        return Format()
    fields = json.dumps(said.labels, sort_keys=True) if said.labels else ""
    return Format(text=said.text or "", fields=fields, json=said.labels is not None)


def _checked(one: Logger) -> Logger:
    return one if one.problem else replace(one, problem="; ".join(_problems(one)))


def _problems(one: Logger) -> Iterator[str]:
    if one.kind is not Kind.FILE:
        yield from provider_services.problems(one.service, one.port)
    if not all(map(_is_header, (*one.request_headers, *one.response_headers, *one.response_trailers))):
        yield "an additional header has no name that there can be"
    if len(one.log_name) > _LONGEST_NAME or not one.log_name.isprintable():
        yield "logName is no name"
    if one.kind is Kind.OTLP and not all(isinstance(value, str) for value in _fields(one).values()):
        yield "labels of an OpenTelemetry provider are texts"


def _is_header(name: str) -> bool:
    return name.isascii() and name.isprintable() and bool(name) and " " not in name


def _fields(one: Logger) -> Mapping[str, Any]:
    return json.loads(one.format.fields) if one.format.fields else {}


def resolve(said: Iterable[Logger], default: tuple[str, ...], registry: Registry, before: Loggers) -> Loggers:
    """The providers, each with its cluster or with what is wrong; ``before`` itself where nothing differs."""
    made = Loggers(by_name={one.name.lower(): _placed(one, registry) for one in said}, default=default)
    return before if made == before else made


def _placed(one: Logger, registry: Registry) -> Logger:
    if one.problem or one.kind is Kind.FILE:
        return one
    found = provider_services.find(one.service, one.port, registry)
    return replace(one, host=found.host, namespace=found.namespace, cluster=found.cluster, problem=found.problem)

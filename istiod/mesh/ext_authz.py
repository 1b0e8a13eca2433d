"""Who decides for CUSTOM policies: the extension providers of the mesh configuration (features rows N8, R4).

A provider that cannot be asked is a text that says why; what it should decide is refused (Istio: extauthz.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from crds import extension_provider as api
from istiod.mesh import provider_services
from istiod.mesh.registry import Registry

_PATIENCE: Final = timedelta(seconds=600)
"""Istio's default: the DestinationRule of the service is meant to say less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """How much of a request's body a provider gets."""

    most_bytes: int
    partial: bool = False
    as_bytes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """What a provider that speaks HTTP is sent, and what of its answer goes on. Headers may be ``abc*`` or ``*abc``."""

    path_prefix: str = ""
    request_headers: tuple[str, ...] = ()
    additional_headers: tuple[tuple[str, str], ...] = ()
    to_upstream: tuple[str, ...] = ()
    to_downstream_on_deny: tuple[str, ...] = ()
    to_downstream_on_allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtAuthz:
    """A provider. ``http`` None: it speaks gRPC. ``status_on_error`` 0 is Envoy's default, 403.

    ``service`` is a host or NAMESPACE/HOST; ``host`` and ``cluster`` are known once the service is found.
    """

    name: str
    service: str
    port: int
    http: HttpCheck | None = None
    timeout: timedelta = _PATIENCE
    fail_open: bool = False
    status_on_error: int = 0
    clear_route_cache: bool = False
    body: Body | None = None
    host: str = ""
    cluster: str = ""
    problem: str = ""


def read(said: Iterable[api.ExtensionProvider]) -> tuple[ExtAuthz, ...]:
    """The providers that decide. Of one name twice, neither can be asked."""
    return provider_services.distinct(map(_read, said))


def _read(said: api.ExtensionProvider) -> ExtAuthz | None:
    if said.envoy_ext_authz_http is not None:
        return _http(said.name, said.envoy_ext_authz_http)
    if said.envoy_ext_authz_grpc is not None:
        return _common(said.name, said.envoy_ext_authz_grpc)
    return None


def _common(name: str, said: api.EnvoyExternalAuthorization) -> ExtAuthz:
    body, status = said.include_request_body_in_check, said.status_on_error
    return ExtAuthz(
        name=name,
        service=said.service,
        port=said.port,
        timeout=_PATIENCE if said.timeout is None else said.timeout,
        fail_open=said.fail_open,
        status_on_error=int(status) if _is_status(status) else 0,
        clear_route_cache=said.clear_route_cache,
        body=None
        if body is None
        else Body(most_bytes=body.max_request_bytes, partial=body.allow_partial_message, as_bytes=body.pack_as_bytes),
        problem="; ".join(_problems(said)),
    )


def _http(name: str, said: api.EnvoyExternalAuthorizationHttpProvider) -> ExtAuthz:
    found = _common(name, said)
    check = HttpCheck(
        path_prefix=said.path_prefix,
        request_headers=said.include_request_headers_in_check or said.include_headers_in_check,
        additional_headers=tuple(sorted(said.include_additional_headers_in_check.items())),
        to_upstream=said.headers_to_upstream_on_allow,
        to_downstream_on_deny=said.headers_to_downstream_on_deny,
        to_downstream_on_allow=said.headers_to_downstream_on_allow,
    )
    listed = (*check.request_headers, *check.to_upstream, *check.to_downstream_on_deny, *check.to_downstream_on_allow)
    problems = [found.problem] if found.problem else []
    if check.path_prefix and not check.path_prefix.startswith("/"):
        problems.append("pathPrefix must begin with /")
    if {"*", ""} & set(listed):
        problems.append("a header is neither empty nor *")
    if any(not key for key, _ in check.additional_headers):
        problems.append("an additional header has no name")
    return replace(found, http=check, problem="; ".join(problems))


def _problems(said: api.EnvoyExternalAuthorization) -> Iterable[str]:
    yield from provider_services.problems(said.service, said.port)
    if said.status_on_error and not _is_status(said.status_on_error):
        yield f"statusOnError {said.status_on_error!r} is no HTTP status"
    if said.timeout is not None and said.timeout <= timedelta():
        yield "timeout must be more than nothing"
    body = said.include_request_body_in_check
    if body is not None and not body.max_request_bytes:
        yield "includeRequestBodyInCheck.maxRequestBytes must be given"


_STATUSES: Final = frozenset(
    str(status.value)
    for status in HTTPStatus
    if status not in {101, 102, 103, 418, 425, 451}  # Envoy's envoy.type.v3.StatusCode has not all of them
)


def _is_status(said: str) -> bool:
    return said in _STATUSES


def resolve(providers: Iterable[ExtAuthz], registry: Registry) -> Mapping[str, ExtAuthz]:
    """The providers by name, each with its cluster or with what is wrong."""
    return {one.name: one if one.problem else _resolved(one, registry) for one in providers}


def _resolved(one: ExtAuthz, registry: Registry) -> ExtAuthz:
    found = provider_services.find(one.service, one.port, registry)
    return replace(one, host=found.host, cluster=found.cluster, problem=found.problem)

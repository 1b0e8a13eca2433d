"""AuthorizationPolicies as filters of Envoy, before all others but the token check (features rows N4, N8-N10).

In Istio's order: what a provider decides, then (after tokens are checked) what is noted, refused and let in. Providers
are asked about what a filter before them has matched in its shadow rules, which refuse nothing themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2, http_uri_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as tcp_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2
from envoy.type.v3 import http_status_pb2

from istiod.envoy import rbac, wellknown
from istiod.mesh.authorization import Asked, Authorization, RuleSet
from istiod.mesh.ext_authz import ExtAuthz, HttpCheck

HTTP_RBAC = "envoy.filters.http.rbac"
TCP_RBAC = "envoy.filters.network.rbac"
_HTTP_ASK = "envoy.filters.http.ext_authz"
_TCP_ASK = "envoy.filters.network.ext_authz"
_STATS = "tcp."
_ASKED = "istio-ext-authz"
_UNASKED = "-deny-due-to-bad-CUSTOM-action"
_ASKED_STATS = "istio_ext_authz_"
_TRIED_STATS = {rbac_pb2.RBAC.ALLOW: "istio_dry_run_allow_", rbac_pb2.RBAC.DENY: "istio_dry_run_deny_"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rbac:
    """One RBAC filter, of HTTP or TCP."""

    rules: rbac_pb2.RBAC | None = None
    shadow: rbac_pb2.RBAC | None = None
    shadow_stats: str = ""

    def http(self) -> hcm_pb2.HttpFilter:
        """As a filter for requests."""
        found = http_rbac_pb2.RBAC(
            rules=self.rules, shadow_rules=self.shadow, shadow_rules_stat_prefix=self.shadow_stats
        )
        return hcm_pb2.HttpFilter(name=HTTP_RBAC, typed_config=wellknown.packed(found))

    def tcp(self) -> listener_components_pb2.Filter:
        """As a filter for connections."""
        found = tcp_rbac_pb2.RBAC(
            rules=self.rules,
            shadow_rules=self.shadow,
            shadow_rules_stat_prefix=self.shadow_stats,
            stat_prefix=_STATS,
        )
        return listener_components_pb2.Filter(name=TCP_RBAC, typed_config=wellknown.packed(found))


def asking(said: Authorization | None) -> Iterator[hcm_pb2.HttpFilter]:
    """HTTP filters that come before tokens are checked: CUSTOM."""
    for asked in said.asked if said else ():
        yield _asked(asked, tcp=False).http()
        if not asked.provider.problem:
            yield hcm_pb2.HttpFilter(name=_HTTP_ASK, typed_config=wellknown.packed(_ask(asked.provider)))


def deciding(said: Authorization | None) -> Iterator[hcm_pb2.HttpFilter]:
    """HTTP filters that come after tokens are checked: AUDIT, DENY and ALLOW."""
    for one in _decided(said, tcp=False):
        yield one.http()


def network(said: Authorization | None) -> Iterator[listener_components_pb2.Filter]:
    """Filters of a TCP chain. A provider that speaks HTTP decides about no connection."""
    for asked in said.asked if said else ():
        if asked.provider.problem:
            yield _asked(asked, tcp=True).tcp()
        elif asked.provider.http is None:
            yield _asked(asked, tcp=True).tcp()
            packed = wellknown.packed(_ask_of_connection(asked.provider))
            yield listener_components_pb2.Filter(name=_TCP_ASK, typed_config=packed)
    for one in _decided(said, tcp=True):
        yield one.tcp()


def _decided(said: Authorization | None, *, tcp: bool) -> Iterator[_Rbac]:
    if said is None:
        return
    for rules, action in (
        (said.audit, rbac_pb2.RBAC.LOG),
        (said.deny, rbac_pb2.RBAC.DENY),
        (said.allow, rbac_pb2.RBAC.ALLOW),
    ):
        if rules:
            yield _rules(rules, action, tcp=tcp)


def _rules(said: RuleSet, action: rbac_pb2.RBAC.Action, *, tcp: bool) -> _Rbac:
    tried = None if said.tried is None else rbac.rules(said.tried, action, tcp=tcp)
    return _Rbac(
        rules=None if said.enforced is None else rbac.rules(said.enforced, action, tcp=tcp),
        shadow=tried,
        shadow_stats=_TRIED_STATS[rbac_pb2.RBAC.ALLOW if tried is None else action],  # Istio names it with no rule too
    )


def _asked(said: Asked, *, tcp: bool) -> _Rbac:
    """Notes what the provider is to be asked about, or refuses it where the provider cannot be asked."""
    found = rbac.rules(said.rules, rbac_pb2.RBAC.DENY, _name(said.provider) + "-", tcp=tcp)
    if not said.provider.problem:
        return _Rbac(shadow=found, shadow_stats=_ASKED_STATS)
    refused = rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY)
    for name, policy in found.policies.items():
        refused.policies[name + _UNASKED].CopyFrom(policy)
    return _Rbac(rules=refused)


def _name(provider: ExtAuthz) -> str:
    return f"{_ASKED}-{provider.name}"


def _ask(provider: ExtAuthz) -> ext_authz_pb2.ExtAuthz:
    found = ext_authz_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=provider.fail_open,
        clear_route_cache=provider.clear_route_cache,
        filter_enabled_metadata=_matched(provider, HTTP_RBAC),
    )
    if provider.status_on_error:
        found.status_on_error.CopyFrom(http_status_pb2.HttpStatus(code=provider.status_on_error))  # type: ignore[arg-type]  # an open enum
    if provider.body is not None:
        found.with_request_body.max_request_bytes = provider.body.most_bytes
        found.with_request_body.allow_partial_message = provider.body.partial
        found.with_request_body.pack_as_bytes = provider.body.as_bytes
    if provider.http is not None:
        found.http_service.CopyFrom(_http(provider, provider.http))
    else:
        found.grpc_service.CopyFrom(_grpc(provider))
    return found


def _ask_of_connection(provider: ExtAuthz) -> tcp_ext_authz_pb2.ExtAuthz:
    return tcp_ext_authz_pb2.ExtAuthz(
        stat_prefix=_STATS,
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=provider.fail_open,
        grpc_service=_grpc(provider),
        filter_enabled_metadata=_matched(provider, TCP_RBAC),
    )


def _grpc(provider: ExtAuthz) -> grpc_service_pb2.GrpcService:
    return grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=provider.cluster, authority=provider.host),
        timeout=wellknown.duration(provider.timeout),
    )


def _http(provider: ExtAuthz, check: HttpCheck) -> ext_authz_pb2.HttpService:
    found = ext_authz_pb2.HttpService(
        path_prefix=check.path_prefix,
        server_uri=http_uri_pb2.HttpUri(
            uri=f"http://{provider.host}", cluster=provider.cluster, timeout=wellknown.duration(provider.timeout)
        ),
    )
    request, response = found.authorization_request, found.authorization_response
    if check.request_headers:
        request.allowed_headers.CopyFrom(_headers(check.request_headers))
    for name, value in check.additional_headers:
        request.headers_to_add.append(base_pb2.HeaderValue(key=name, value=value))
    if check.to_upstream:
        response.allowed_upstream_headers.CopyFrom(_headers(check.to_upstream))
    if check.to_downstream_on_deny:
        response.allowed_client_headers.CopyFrom(_headers(check.to_downstream_on_deny))
    if check.to_downstream_on_allow:
        response.allowed_client_headers_on_success.CopyFrom(_headers(check.to_downstream_on_allow))
    return found


def _headers(names: Iterable[str]) -> string_pb2.ListStringMatcher:
    return string_pb2.ListStringMatcher(patterns=[rbac.string(name, ignore_case=True) for name in names])


def _matched(provider: ExtAuthz, name: str) -> metadata_pb2.MetadataMatcher:
    """What the RBAC filter before has left where one of the provider's rules holds."""
    step = metadata_pb2.MetadataMatcher.PathSegment(key=f"{_ASKED_STATS}shadow_effective_policy_id")
    prefix = value_pb2.ValueMatcher(string_match=string_pb2.StringMatcher(prefix=_name(provider)))
    return metadata_pb2.MetadataMatcher(filter=name, path=[step], value=prefix)

"""TLS contexts, upstream and downstream, and where their secrets come from (features rows G11, N2, N3, E6-E10).

A workload's own certificate and root come from the agent by SDS (cluster ``sds-grpc``), credentials of gateways and
DestinationRules from us by ADS. Which side speaks TLS is decided in istiod.mesh.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache

from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from istiod.config.resource import delimited
from istiod.envoy import wellknown
from istiod.mesh.policy import TlsDefaults, TlsMode
from istiod.mesh.scope import DownstreamTls, UpstreamTls
from istiod.mesh.settings import MeshSettings
from wire import names

_TLS = "envoy.transport_sockets.tls"
_UPSTREAM = names.TYPE_PREFIX + tls_pb2.UpstreamTlsContext.DESCRIPTOR.full_name
_SNI = b"\x12"  # field 2 of UpstreamTlsContext
_SanMatcher = common_pb2.SubjectAltNameMatcher
_CREDENTIAL = "kubernetes://"
_CA_SUFFIX = "-cacert"
_SYSTEM_ROOTS = "file-root:system"
_VERSIONS = {
    "": common_pb2.TlsParameters.TLS_AUTO,
    "TLS_AUTO": common_pb2.TlsParameters.TLS_AUTO,
    "TLSV1_0": common_pb2.TlsParameters.TLSv1_0,
    "TLSV1_1": common_pb2.TlsParameters.TLSv1_1,
    "TLSV1_2": common_pb2.TlsParameters.TLSv1_2,
    "TLSV1_3": common_pb2.TlsParameters.TLSv1_3,
}
_MESH_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
_PROXY_PROTOCOL = {
    "V1": proxy_protocol_pb2.ProxyProtocolConfig.V1,
    "V2": proxy_protocol_pb2.ProxyProtocolConfig.V2,
}

_NONE = TlsDefaults()

RAW = base_pb2.TransportSocket(
    name="envoy.transport_sockets.raw_buffer", typed_config=wellknown.packed(raw_buffer_pb2.RawBuffer())
)
"""Plaintext."""


def upstream(tls: UpstreamTls, alpn: tuple[str, ...], defaults: TlsDefaults = _NONE) -> base_pb2.TransportSocket:
    """The client side of TLS towards a cluster, offering ``alpn``. ``defaults`` are for what is not mesh mTLS."""
    common = _upstream_common(replace(tls, sni="") if tls.sni else tls, alpn, defaults)
    found = base_pb2.TransportSocket(name=_TLS)
    found.typed_config.type_url = _UPSTREAM
    found.typed_config.value = common + delimited(_SNI, tls.sni.encode()) if tls.sni else common
    return found


@lru_cache(maxsize=1024)
def _upstream_common(tls: UpstreamTls, alpn: tuple[str, ...], defaults: TlsDefaults) -> bytes:
    """An UpstreamTlsContext without SNI, as bytes: the clusters of a thousand services differ in little else."""
    common = tls_pb2.CommonTlsContext(
        alpn_protocols=alpn,
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2,
            tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
        ),
    )
    if not _mesh(tls):
        common.tls_params.cipher_suites.extend(defaults.cipher_suites)
        common.tls_params.ecdh_curves.extend(defaults.curves)
    if (certificate := _client_certificate(tls)) is not None:
        common.tls_certificate_sds_secret_configs.append(certificate)
    if (root := _upstream_root(tls)) is None:
        common.validation_context.SetInParent()
    else:
        common.combined_validation_context.CopyFrom(_validation(root, tls.subject_alt_names, tls.ca_crl))
    return wellknown.encode(tls_pb2.UpstreamTlsContext(common_tls_context=common))


def downstream(tls: DownstreamTls, settings: MeshSettings) -> base_pb2.TransportSocket:
    """The server side of TLS on a filter chain."""
    common = tls_pb2.CommonTlsContext(
        alpn_protocols=tls.alpn,
        tls_certificate_sds_secret_configs=_server_certificates(tls),
        tls_params=_downstream_params(tls, settings),
    )
    if tls.mutual:
        common.combined_validation_context.CopyFrom(_client_validation(tls, settings))
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common, require_client_certificate=wellknown.boolean(tls.mutual and not tls.optional)
    )
    return base_pb2.TransportSocket(name=_TLS, typed_config=wellknown.packed(context))


def with_proxy_protocol(socket: base_pb2.TransportSocket, version: str) -> base_pb2.TransportSocket:
    """The socket with a PROXY protocol header first (features row G14); "" leaves it as it is."""
    if not version:
        return socket
    wrapped = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(
        config=proxy_protocol_pb2.ProxyProtocolConfig(version=_PROXY_PROTOCOL[version]), transport_socket=socket
    )
    return base_pb2.TransportSocket(
        name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=wellknown.packed(wrapped)
    )


def served_secrets(tls: UpstreamTls | DownstreamTls | None) -> frozenset[str]:
    """SDS names that the context asks of us by ADS (those of the agent are not ours to order)."""
    if tls is None:
        return frozenset()
    if isinstance(tls, DownstreamTls):
        own = (tls.credential_name, *tls.more_credentials) if tls.credential_name else ()
        root = tls.clients_credential
    else:
        own = (tls.credential_name,) if tls.credential_name and tls.mode is TlsMode.MUTUAL else ()
        root = "" if tls.insecure_skip_verify else tls.credential_name
    found = (*own, *((root + _CA_SUFFIX,) if root else ()))
    return frozenset(_credential(name) for name in found if not name.startswith(names.EXTERNAL_CREDENTIAL))


def _mesh(tls: UpstreamTls) -> bool:
    return tls.mode in (TlsMode.AUTO, TlsMode.ISTIO_MUTUAL)


def _client_certificate(tls: UpstreamTls) -> secret_pb2.SdsSecretConfig | None:
    if _mesh(tls):
        return _agent(names.RESOURCE_WORKLOAD)
    if tls.mode is not TlsMode.MUTUAL:
        return None
    if tls.credential_name:
        return _credential_of(tls.credential_name)
    return _agent(f"file-cert:{tls.client_certificate}~{tls.private_key}")


def _upstream_root(tls: UpstreamTls) -> secret_pb2.SdsSecretConfig | None:
    if _mesh(tls):
        return _agent(names.RESOURCE_ROOT)
    if tls.insecure_skip_verify:
        return None
    if tls.credential_name:
        return _credential_of(tls.credential_name, _CA_SUFFIX)
    return _agent(f"file-root:{tls.ca_certificates}" if tls.ca_certificates else _SYSTEM_ROOTS)


def _server_certificates(tls: DownstreamTls) -> list[secret_pb2.SdsSecretConfig]:
    if tls.workload:
        return [_agent(names.RESOURCE_WORKLOAD)]
    if tls.credential_name:
        return [_credential_of(name) for name in (tls.credential_name, *tls.more_credentials)]
    pairs = ((tls.certificate_file, tls.key_file), *tls.more_files)
    return [_agent(f"file-cert:{certificate}~{key}") for certificate, key in pairs]


def _client_validation(
    tls: DownstreamTls, settings: MeshSettings
) -> tls_pb2.CommonTlsContext.CombinedCertificateValidationContext:
    if tls.workload:
        root = _agent(names.RESOURCE_ROOT)
    elif tls.clients_credential:
        root = _credential_of(tls.clients_credential, _CA_SUFFIX)
    else:
        root = _agent(f"file-root:{tls.ca_file}")
    found = _validation(root, tls.subject_alt_names, tls.crl_file)
    context = found.default_validation_context
    context.verify_certificate_spki.extend(tls.spki)
    context.verify_certificate_hash.extend(tls.hashes)
    if tls.accept_untrusted:
        context.trust_chain_verification = common_pb2.CertificateValidationContext.ACCEPT_UNTRUSTED
    if tls.workload and not tls.gateway and not tls.subject_alt_names:
        domains = (settings.trust_domain, *settings.trust_domain_aliases)
        context.match_typed_subject_alt_names.extend(
            _SanMatcher(san_type=_SanMatcher.URI, matcher=string_pb2.StringMatcher(prefix=f"spiffe://{domain}/"))
            for domain in domains
        )
    return found


def _downstream_params(tls: DownstreamTls, settings: MeshSettings) -> common_pb2.TlsParameters | None:
    said = tls.min_version or tls.max_version or tls.cipher_suites
    if said or tls.gateway or not tls.workload:
        defaults = settings.tls_defaults
        found = common_pb2.TlsParameters(
            tls_minimum_protocol_version=_VERSIONS[tls.min_version or defaults.min_version],
            tls_maximum_protocol_version=_VERSIONS[tls.max_version],
            cipher_suites=tls.cipher_suites or defaults.cipher_suites,
            ecdh_curves=defaults.curves,
        )
        return found if found.ByteSize() else None
    return common_pb2.TlsParameters(
        tls_minimum_protocol_version=_VERSIONS[settings.min_tls_version],
        tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
        cipher_suites=settings.mesh_cipher_suites or _MESH_CIPHERS,
    )


def _validation(
    root: secret_pb2.SdsSecretConfig, names_wanted: tuple[str, ...], crl_file: str
) -> tls_pb2.CommonTlsContext.CombinedCertificateValidationContext:
    wanted = [
        _SanMatcher(san_type=_san_type(name), matcher=string_pb2.StringMatcher(exact=name)) for name in names_wanted
    ]
    return tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=common_pb2.CertificateValidationContext(
            match_typed_subject_alt_names=wanted, crl=base_pb2.DataSource(filename=crl_file) if crl_file else None
        ),
        validation_context_sds_secret_config=root,
    )


def _san_type(name: str) -> _SanMatcher.SanType:
    """What kind of name it is: SPIFFE ids are URIs; Istio's deprecated matcher tried all kinds."""
    if "://" in name:
        return _SanMatcher.URI
    if "@" in name:
        return _SanMatcher.EMAIL
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _SanMatcher.DNS
    return _SanMatcher.IP_ADDRESS


def _credential(name: str) -> str:
    return name if name.startswith(_CREDENTIAL) else _CREDENTIAL + name


def _credential_of(name: str, end: str = "") -> secret_pb2.SdsSecretConfig:
    """Where a credential comes from: us, or somebody in the pod."""
    if name.startswith(names.EXTERNAL_CREDENTIAL):
        return secret_pb2.SdsSecretConfig(name=name + end, sds_config=_POD)
    return _ads(_credential(name) + end)


def _ads(name: str) -> secret_pb2.SdsSecretConfig:
    source = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.V3
    )
    return secret_pb2.SdsSecretConfig(name=name, sds_config=source)


def _agent(name: str) -> secret_pb2.SdsSecretConfig:
    return secret_pb2.SdsSecretConfig(name=name, sds_config=_AGENT)


def _sds(cluster: str) -> config_source_pb2.ConfigSource:
    return config_source_pb2.ConfigSource(
        api_config_source=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.GRPC,
            transport_api_version=config_source_pb2.V3,
            set_node_on_first_message_only=True,
            grpc_services=[
                grpc_service_pb2.GrpcService(envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=cluster))
            ],
        ),
        resource_api_version=config_source_pb2.V3,
    )


_AGENT, _POD = _sds(names.CLUSTER_SDS), _sds(names.CLUSTER_CREDENTIALS)
# The agent may need longer than Envoy's 15 s for its first certificate; without it connections must wait, not fail
_AGENT.initial_fetch_timeout.CopyFrom(wellknown.duration(timedelta(0)))

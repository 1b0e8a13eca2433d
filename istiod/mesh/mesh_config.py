"""ConfigMap ``istio`` (or ``istio-<rev>``) of the root namespace, key ``mesh`` -> MeshSettings (rows R1-R4, R7).

It is an object like any other, so a change is live; so is a shared one below it (SHARED_MESH_CONFIG). Text that cannot
be read keeps the settings that served before, and is reported. Annotation ``proxy.istio.io/config`` is
crds.proxy_annotation's, ProxyConfig objects are webhook.proxy_configs'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crds import core, mesh_config, parse, proxy_annotation, shared_mesh, span_tags, tls_names, unhonoured
from crds.destination_rule import TrafficPolicy
from crds.diagnostic import Code, Diagnostic, Severity, error, warning
from crds.key import ConfigKey
from crds.virtual_service import HTTPRetry
from istiod.config.store import ConfigSnapshot
from istiod.mesh import (
    connection_settings,
    ext_authz,
    locality,
    loggers,
    metrics,
    networks,
    proxy_headers,
    retries,
    tracers,
    tracing,
    traffic_policy,
)
from istiod.mesh.policy import LocalityLb, TlsDefaults
from istiod.mesh.route import Retry
from istiod.mesh.settings import DEFAULT_RETRY, AccessLogEncoding, InboundMode, MeshSettings, OutboundMode

FIELD = "data.mesh"
KINDS = frozenset({("", "ConfigMap"), networks.NAMESPACE})
"""Of what the settings are made."""
_DEFAULT = MeshSettings(root_namespace="")
"""Without a root namespace: it is where the settings are, unless they say otherwise."""
_AUTO = "TLS_AUTO"
_FOR_ALL = "connectionSettings."
"""Of defaultConfig it has an effect, of a pod's annotation it has none."""
_INGRESS = ("DEFAULT", "STRICT")
"""Modes in which Istio reads Ingress objects."""


def read(snapshot: ConfigSnapshot, previous: MeshSettings | None) -> tuple[MeshSettings, tuple[Diagnostic, ...]]:
    """The settings of a snapshot, with findings; ``previous`` (or Istio's defaults) where they cannot be read."""
    found, diagnostics = _read(snapshot, previous)
    root = found.root_namespace or snapshot.mesh_config.namespace
    features = snapshot.features
    before = previous.networks if previous else networks.NOTHING
    reach, of_networks = networks.read(snapshot, root, before)
    found = replace(found, features=features, dns_domain=features.dns_domain, root_namespace=root, networks=reach)
    return found, (*diagnostics, *of_networks)


def text(snapshot: ConfigSnapshot) -> str:
    """What is said of the mesh: its own ConfigMap's text, with a shared one below it."""
    return shared_mesh.merged(_text(snapshot, snapshot.mesh_config), _text(snapshot, snapshot.shared_mesh_config))


def _read(snapshot: ConfigSnapshot, previous: MeshSettings | None) -> tuple[MeshSettings, tuple[Diagnostic, ...]]:
    key, shared = snapshot.mesh_config, snapshot.shared_mesh_config
    config, placed = parse.part_of_text(mesh_config.MeshConfig, text(snapshot), key, FIELD)
    theirs = tuple(_left_out(each) for each in _found(snapshot, shared)) if shared is not None else ()
    if config is None:
        return previous or _DEFAULT, (*(_refused(each) for each in placed), *theirs)
    return settings(config), (*_found(snapshot, key), *theirs)


def _text(snapshot: ConfigSnapshot, key: ConfigKey | None) -> str:
    item = None if key is None else snapshot.get(key)
    return item.data.get("mesh", "") if isinstance(item, core.ConfigMap) else ""


def _found(snapshot: ConfigSnapshot, key: ConfigKey) -> Iterator[Diagnostic]:
    """What is wrong with one of the ConfigMaps by itself."""
    config, placed = parse.part_of_text(mesh_config.MeshConfig, _text(snapshot, key), key, FIELD)
    yield from placed
    if config is None:
        return
    if config.discovery_selectors and not snapshot.selected:
        message = "chooses nothing among the objects of files: all of them are read"
        yield warning(Code.NOT_SUPPORTED, key, f"{FIELD}.discoverySelectors", message)
    yield from _unsupported(config, key)
    yield from _untraceable(config, key)
    for name, value in _unknown(config):
        message = f"Envoy knows no {value!r}: it is left out"
        yield error(Code.BAD_VALUE, key, f"{FIELD}.{name}", message)


def _left_out(finding: Diagnostic) -> Diagnostic:
    if finding.severity is not Severity.ERROR:
        return finding
    return replace(finding, message=f"{finding.message}; the shared settings are left out")


def _refused(finding: Diagnostic) -> Diagnostic:
    if finding.severity is not Severity.ERROR:
        return finding
    return replace(finding, message=f"{finding.message}; the settings from before are kept")


def settings(config: mesh_config.MeshConfig) -> MeshSettings:
    """The settings that a mesh configuration asks for; what it leaves out is Istio's default."""
    found = _with_policies(_with_logs(_identity(config), config), config)
    outbound = config.outbound_traffic_policy
    inbound = config.inbound_traffic_policy
    detection = config.protocol_detection_timeout
    return replace(
        found,
        outbound=OutboundMode(outbound.mode) if outbound else _DEFAULT.outbound,
        inbound=InboundMode(inbound.mode) if inbound else _DEFAULT.inbound,
        outbound_port=config.proxy_listen_port or _DEFAULT.outbound_port,
        inbound_port=config.proxy_inbound_listen_port or _DEFAULT.inbound_port,
        connect_timeout=config.connect_timeout or _DEFAULT.connect_timeout,
        protocol_detection_timeout=_DEFAULT.protocol_detection_timeout if detection is None else detection,
        tcp_keepalive=traffic_policy.keepalive(config.tcp_keepalive),
        http_proxy_port=config.proxy_http_port,
        dns_refresh_rate=config.dns_refresh_rate or _DEFAULT.dns_refresh_rate,
        h2_upgrade=config.h2_upgrade_policy == "UPGRADE",
        verify_servers=config.verify_certificate_at_client is not False,
    )


def _identity(config: mesh_config.MeshConfig) -> MeshSettings:
    auto = config.enable_auto_mtls
    return MeshSettings(
        trust_domain=config.trust_domain or _DEFAULT.trust_domain,
        trust_domain_aliases=config.trust_domain_aliases,
        root_namespace=config.root_namespace,
        auto_mtls=_DEFAULT.auto_mtls if auto is None else auto,
        service_export_to=config.default_service_export_to or _DEFAULT.service_export_to,
        virtual_service_export_to=config.default_virtual_service_export_to or _DEFAULT.virtual_service_export_to,
        destination_rule_export_to=config.default_destination_rule_export_to or _DEFAULT.destination_rule_export_to,
    )


def _with_logs(found: MeshSettings, config: mesh_config.MeshConfig) -> MeshSettings:
    proxy = config.default_config
    connections = proxy.connection_settings if proxy else None
    defaults = config.default_providers or mesh_config.DefaultProviders()
    return replace(
        found,
        access_log_file=config.access_log_file,
        access_log_format=config.access_log_format,
        access_log_encoding=AccessLogEncoding(config.access_log_encoding),
        metrics=_metrics(config, defaults),
        loggers=loggers.read(config.extension_providers),
        default_loggers=defaults.access_logging,
        listener_log=not config.disable_envoy_listener_log,
        enable_tracing=config.enable_tracing
        if "enable_tracing" in config.model_fields_set
        else _DEFAULT.enable_tracing,
        tracing=tracing.read(proxy.tracing) if proxy else tracing.NOTHING,
        tracers=tracers.read(config.extension_providers),
        default_tracer=next(iter(defaults.tracing), ""),
        drain_duration=(proxy.drain_duration if proxy else None) or _DEFAULT.drain_duration,
        headers=proxy_headers.read(proxy) if proxy else proxy_headers.NOTHING,
        sidecar_connections=connection_settings.read(connections, gateway=False) if connections else None,
        gateway_connections=connection_settings.read(connections, gateway=True) if connections else None,
    )


def _metrics(config: mesh_config.MeshConfig, defaults: mesh_config.DefaultProviders) -> metrics.Providers:
    others = {one.name for one in config.extension_providers if one.prometheus is None}
    scraping = {metrics.PROMETHEUS, *(one.name for one in config.extension_providers)} - others
    return metrics.Providers(prometheus=frozenset(scraping), default=defaults.metrics)


def _with_policies(found: MeshSettings, config: mesh_config.MeshConfig) -> MeshSettings:
    paths = config.path_normalization
    tls = config.mesh_mtls
    base = config.default_traffic_policy or TrafficPolicy()
    return replace(
        found,
        default_retry=retries.convert(config.default_http_retry_policy, DEFAULT_RETRY)
        or replace(DEFAULT_RETRY, attempts=0),
        inbound_retry=_inbound_retry(config.default_inbound_http_retry_policy),
        locality_lb=_locality(config),
        path_normalization=_path_normalization(paths),
        ext_authz=ext_authz.read(config.extension_providers),
        mesh_cipher_suites=tls_names.known(tls.cipher_suites, tls_names.CIPHER_SUITES) if tls else (),
        tls_defaults=_tls_defaults(config.tls_defaults),
        default_pool=traffic_policy.connection_pool(base.connection_pool),
        default_outlier=traffic_policy.outlier_detection(base.outlier_detection),
        inbound_stat_name=config.inbound_cluster_stat_name,
        outbound_stat_name=config.outbound_cluster_stat_name,
        min_tls_version=_DEFAULT.min_tls_version
        if tls is None or tls.min_protocol_version == _AUTO
        else tls.min_protocol_version,
    )


def _locality(config: mesh_config.MeshConfig) -> LocalityLb | None:
    """Zone-aware settings come before the others, which Istio's own default has always on."""
    local, zones = config.locality_lb_setting, config.zone_aware_lb_setting
    if zones is not None and zones.enabled is not False:
        return locality.zone_aware(zones)
    return _DEFAULT.locality_lb if local is None else locality.setting(local)


def _tls_defaults(said: mesh_config.TLSConfig | None) -> TlsDefaults:
    if said is None:
        return TlsDefaults()
    return TlsDefaults(
        min_version="" if said.min_protocol_version == _AUTO else said.min_protocol_version,
        curves=tls_names.known(said.ecdh_curves, tls_names.CURVES),
        cipher_suites=tls_names.known(said.cipher_suites, tls_names.CIPHER_SUITES),
    )


def _inbound_retry(said: HTTPRetry | None) -> Retry | None:
    return None if said is None else retries.convert(said, DEFAULT_RETRY) or replace(DEFAULT_RETRY, attempts=0)


def _path_normalization(said: mesh_config.PathNormalization | None) -> str:
    return _DEFAULT.path_normalization if said is None or said.normalization == "DEFAULT" else said.normalization


def _unsupported(config: mesh_config.MeshConfig, key: ConfigKey) -> Iterator[Diagnostic]:
    for path, why in unhonoured.said("MeshConfig", config, FIELD):
        yield warning(Code.NOT_SUPPORTED, key, path, why)
    for name, said in _values(config).items():
        if said:
            yield warning(Code.NOT_SUPPORTED, key, f"{FIELD}.{name}", proxy_annotation.IN_VAIN)


def _untraceable(config: mesh_config.MeshConfig, key: ConfigKey) -> Iterator[Diagnostic]:
    for one in tracers.read(config.extension_providers):
        if one.problem and one.at.service:
            yield error(Code.UNTRACED, key, f"{FIELD}.extensionProviders[{one.name}]", one.problem)
    if config.default_providers and len(config.default_providers.tracing) > 1:
        message = "of several providers the first counts, as on Istio"
        yield warning(Code.NOT_SUPPORTED, key, f"{FIELD}.defaultProviders.tracing", message)
    said = config.default_config.tracing if config.default_config else None
    for name, problem in span_tags.problems(said.custom_tags) if said else ():
        yield error(Code.BAD_VALUE, key, f"{FIELD}.defaultConfig.tracing.customTags[{name}]", problem)


def _unknown(config: mesh_config.MeshConfig) -> Iterator[tuple[str, str]]:
    """Fields that name what Envoy would refuse, with what they name."""
    mesh = config.mesh_mtls or mesh_config.TLSConfig()
    rest = config.tls_defaults or mesh_config.TLSConfig()
    for field, said, names in (
        ("meshMTLS.cipherSuites", mesh.cipher_suites, tls_names.CIPHER_SUITES),
        ("tlsDefaults.cipherSuites", rest.cipher_suites, tls_names.CIPHER_SUITES),
        ("tlsDefaults.ecdhCurves", rest.ecdh_curves, tls_names.CURVES),
    ):
        yield from ((field, name) for name in said if name not in names)


def _values(config: mesh_config.MeshConfig) -> dict[str, bool]:
    """Values that have no effect yet, of fields that have one else: whether they are said."""
    proxy = config.default_config
    return {
        "ingressControllerMode": config.ingress_controller_mode in _INGRESS,
        **{
            f"defaultConfig.{name}": not name.startswith(_FOR_ALL)
            for name in (proxy_annotation.without_effect(proxy) if proxy else ())
        },
    }

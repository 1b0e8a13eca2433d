from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from crds.key import ConfigKey
from istiod.config.store import ConfigStore
from istiod.mesh import locality, mesh_config
from istiod.mesh.policy import ConnectionPool, Keepalive, LocalityLb, OutlierDetection, TlsDefaults
from istiod.mesh.proxy_headers import ProxyHeaders
from istiod.mesh.settings import DEFAULT_RETRY, AccessLogEncoding, InboundMode, MeshSettings, OutboundMode
from tests.mesh import fleet, world

DEFAULT = MeshSettings()


def read(text: str, previous: MeshSettings | None = None) -> tuple[MeshSettings, list[tuple[str, str]]]:
    settings, found = mesh_config.read(world.snapshot(fleet.mesh_config(text)), previous)
    return settings, [(d.code.name, d.field) for d in found]


def test_no_configuration_is_the_default() -> None:
    assert mesh_config.read(world.snapshot(), None) == (DEFAULT, ())
    assert read("  \n") == (DEFAULT, [])
    assert read("defaultConfig: {discoveryAddress: 'istiod:15012'}") == (DEFAULT, [])


def test_every_setting_is_read() -> None:
    found, told = read("""
        proxyListenPort: 1
        proxyInboundListenPort: 2
        connectTimeout: 3s
        protocolDetectionTimeout: 4s
        tcpKeepalive: {probes: 5, time: 6s, interval: 0s}
        outboundTrafficPolicy: {mode: REGISTRY_ONLY}
        inboundTrafficPolicy: {mode: LOCALHOST}
        trustDomain: my.org
        trustDomainAliases: [old.org]
        rootNamespace: config
        enableAutoMtls: false
        accessLogFile: /dev/stdout
        accessLogFormat: x
        accessLogEncoding: JSON
        enableTracing: false
        defaultConfig: {drainDuration: 7s, gatewayTopology: {numTrustedProxies: 2}}
        defaultServiceExportTo: ["."]
        defaultVirtualServiceExportTo: [a]
        defaultDestinationRuleExportTo: [b]
        localityLbSetting: {distribute: [{from: "r/*", to: {"r/*": 100}}], failoverPriority: [x]}
        dnsRefreshRate: 8s
        h2UpgradePolicy: UPGRADE
        defaultHttpRetryPolicy: {attempts: 5}
        pathNormalization: {normalization: NONE}
        meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [AES128-SHA, AES128-SHA]}
        tlsDefaults: {minProtocolVersion: TLSV1_2, cipherSuites: [AES256-SHA], ecdhCurves: [P-256, X25519]}
        defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}, outlierDetection: {consecutive5xxErrors: 7}}
        inboundClusterStatName: in_%SERVICE%
        outboundClusterStatName: out_%SERVICE%
    """)
    assert told == []
    assert found == MeshSettings(
        outbound_port=1,
        inbound_port=2,
        connect_timeout=timedelta(seconds=3),
        protocol_detection_timeout=timedelta(seconds=4),
        tcp_keepalive=Keepalive(probes=5, time=timedelta(seconds=6)),
        outbound=OutboundMode.REGISTRY_ONLY,
        inbound=InboundMode.LOCALHOST,
        trust_domain="my.org",
        trust_domain_aliases=("old.org",),
        root_namespace="config",
        auto_mtls=False,
        access_log_file="/dev/stdout",
        access_log_format="x",
        access_log_encoding=AccessLogEncoding.JSON,
        enable_tracing=False,
        drain_duration=timedelta(seconds=7),
        headers=ProxyHeaders(trusted_proxies=2),
        service_export_to=(".",),
        virtual_service_export_to=("a",),
        destination_rule_export_to=("b",),
        locality_lb=LocalityLb(distribute=(("r/*", (("r/*", 100),)),), failover_priority=("x",)),
        dns_refresh_rate=timedelta(seconds=8),
        h2_upgrade=True,
        default_retry=found.default_retry,
        path_normalization="NONE",
        min_tls_version="TLSV1_3",
        mesh_cipher_suites=("AES128-SHA",),
        tls_defaults=TlsDefaults(min_version="TLSV1_2", cipher_suites=("AES256-SHA",), curves=("P-256", "X25519")),
        default_pool=ConnectionPool(max_connections=9),
        default_outlier=OutlierDetection(consecutive_5xx=7),
        inbound_stat_name="in_%SERVICE%",
        outbound_stat_name="out_%SERVICE%",
    )
    assert found.default_retry.attempts == 5


def test_retries_can_be_switched_off_for_the_mesh() -> None:
    found, _ = read("defaultHttpRetryPolicy: {attempts: 0}")
    assert found.default_retry.attempts == 0
    assert found.default_retry.retry_on == DEFAULT_RETRY.retry_on


def test_values_that_mean_the_default_are_the_default() -> None:
    text = (
        "{meshMTLS: {minProtocolVersion: TLS_AUTO}, tlsDefaults: {}, pathNormalization: {}, inboundTrafficPolicy: {}}"
    )
    assert read(text) == (DEFAULT, [])
    assert read("{defaultTrafficPolicy: {}, defaultConfig: {}}") == (DEFAULT, [])
    assert read("# nothing yet") == (DEFAULT, [])
    assert read("outboundTrafficPolicy: {mode: ALLOW_ANY}")[0].outbound is OutboundMode.ALLOW_ANY


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("a: [", "UNREADABLE", "data.mesh"),
        ("- a", "BAD_VALUE", "data.mesh"),
        ("connectTimeout: soon", "BAD_VALUE", "data.mesh.connectTimeout"),
    ],
)
def test_what_cannot_be_read_keeps_the_settings_from_before(text: str, code: str, field: str) -> None:
    before = MeshSettings(trust_domain="my.org")
    assert read(text, before) == (before, [(code, field)])
    assert read(text) == (DEFAULT, [(code, field)])


def test_errors_say_that_the_settings_from_before_are_kept() -> None:
    found = mesh_config.read(world.snapshot(fleet.mesh_config("{colour: red, connectTimeout: soon}")), None)[1]
    kept = {each.field: each.message.endswith("; the settings from before are kept") for each in found}
    assert kept == {"data.mesh.colour": False, "data.mesh.connectTimeout": True}


@pytest.mark.parametrize(("text", "attempts"), [("{}", 0), ("{attempts: 0}", 0), ("{attempts: 3}", 3)])
def test_the_mesh_decides_how_often_the_app_is_asked_again(text: str, attempts: int) -> None:
    found = read(f"defaultInboundHttpRetryPolicy: {text}")[0]
    assert found.inbound_retry is not None
    assert found.inbound_retry.attempts == attempts
    assert read("proxyHttpPort: 15007")[0] == replace(DEFAULT, http_proxy_port=15007)


def test_unknown_and_unsupported_fields_are_told() -> None:
    found, told = read("{colour: red, ingressClass: x, discoverySelectors: []}")
    assert found == DEFAULT
    assert told == [("UNKNOWN_FIELD", "data.mesh.colour"), ("NOT_SUPPORTED", "data.mesh.ingressClass")]


def test_selectors_of_namespaces_are_for_sources_that_have_namespaces() -> None:
    text = "discoverySelectors: [{matchLabels: {mesh: 'on'}}]"
    assert read(text)[1] == [("NOT_SUPPORTED", "data.mesh.discoverySelectors")]

    cluster = replace(world.snapshot(fleet.mesh_config(text)), selected=True)
    assert mesh_config.read(cluster, None) == (DEFAULT, ())


def test_parts_that_change_nothing_yet_are_told_too() -> None:
    _, told = read(
        """
        outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: x}}
        meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [AES128-SHA], ecdhCurves: [Y]}
        disableEnvoyListenerLog: true
        enablePrometheusMerge: true
        ingressControllerMode: STRICT
        hboneIdleTimeout: 5s
        thriftConfig: {rateLimitUrl: a}
        mixerCheckServer: a
        defaultConfig:
          zipkinAddress: zipkin:9411
          proxyHeaders: {attemptCount: {disabled: true}, metadataExchangeHeaders: {mode: IN_MESH}}
          connectionSettings: {profile: EDGE, globalDownstreamConnectionLimit: 9}
          tracing: {sampling: 50, zipkin: {address: "zipkin:9411"}}
          controlPlaneAuthPolicy: NONE
          discoveryRefreshDelay: 1s
          meshId: a
          proxyMetadata: {XDS_ROOT_CA: /certs, CA_PROVIDER: "", EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true"}
          image: {imageType: debug}
          gatewayTopology: {numTrustedProxies: 1, forwardClientCertDetails: SANITIZE, proxyProtocol: {}}
        """
    )
    assert {code for code, _ in told} == {"NOT_SUPPORTED"}
    assert sorted(field.removeprefix("data.mesh.") for _, field in told) == [
        "defaultConfig.controlPlaneAuthPolicy",
        "defaultConfig.discoveryRefreshDelay",
        "defaultConfig.meshId",
        "defaultConfig.proxyHeaders.metadataExchangeHeaders",
        "defaultConfig.proxyMetadata.XDS_ROOT_CA",
        "defaultConfig.zipkinAddress",
        "hboneIdleTimeout",
        "ingressControllerMode",
        "meshMTLS.ecdhCurves",
        "mixerCheckServer",
        "outboundTrafficPolicy.egressProxy",
        "thriftConfig",
    ]
    assert read("{verifyCertificateAtClient: true, defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}}")[1] == []
    assert read("ingressControllerMode: 'OFF'")[1] == []


RULE = LocalityLb(failover=(("a", "b"),))
MESH = LocalityLb()
OFF = LocalityLb(enabled=False)
SHARES = LocalityLb(distribute=(("a", (("a", 100),)),))


@pytest.mark.parametrize(
    ("rule", "mesh", "distribution", "ejects", "expected"),
    [
        (None, MESH, "", False, None),
        (None, MESH, "", True, MESH),
        (None, None, "", True, None),
        (RULE, MESH, "", True, RULE),
        (RULE, MESH, "", False, None),
        (OFF, MESH, "", True, None),
        (SHARES, MESH, "", False, SHARES),
        (None, MESH, "PreferClose", False, locality.CLOSE),
        (None, OFF, "PreferSameNode", False, locality.CLOSE_TO_NODE),
        (RULE, MESH, "PreferClose", False, None),
        (None, MESH, "Whatever", False, None),
    ],
)
def test_locality_takes_effect_where_it_can(
    rule: LocalityLb | None, mesh: LocalityLb | None, distribution: str, *, ejects: bool, expected: LocalityLb | None
) -> None:
    assert locality.effective(rule, mesh, distribution, ejects=ejects) == expected


@pytest.mark.parametrize(
    "text",
    [
        "proxyListenPort: -1",
        "proxyInboundListenPort: 70000",
        "connectTimeout: -5s",
        "protocolDetectionTimeout: -1ms",
        "dnsRefreshRate: 2562047h",
        "tcpKeepalive: {interval: -1s}",
        "tcpKeepalive: {time: 2562047h}",
    ],
)
def test_values_that_envoy_cannot_take_leave_the_settings_as_they_were(text: str) -> None:
    before = MeshSettings(trust_domain="my.org")
    assert read(text, before) == (before, [("BAD_VALUE", f"data.mesh.{text.partition(':')[0]}{_inner(text)}")])


def _inner(text: str) -> str:
    return "." + text.partition("{")[2].partition(":")[0] if "{" in text else ""


SHARED = ConfigKey("", "ConfigMap", "istio-system", "shared")


def with_shared(own: str, shared: str) -> tuple[MeshSettings, list[tuple[str, str]]]:
    """Settings, and for each finding the ConfigMap and the message."""
    text = fleet.dump("v1", "ConfigMap", SHARED.name, SHARED.namespace, data={"mesh": shared})
    store = ConfigStore(shared_mesh_config=SHARED)
    for item in world.objects(*([fleet.mesh_config(own)] if own else []), text):
        store.apply(item)
    settings, found = mesh_config.read(store.snapshot(), None)
    return settings, [(str(each.key and each.key.name), each.message) for each in found]


def test_what_the_mesh_does_not_say_a_shared_configuration_may() -> None:
    shared = "{trustDomain: shared.org, accessLogFile: /dev/stdout, defaultConfig: {drainDuration: 7s}}"
    assert with_shared("{trustDomain: my.org, defaultConfig: {concurrency: 2}}", shared) == (
        replace(DEFAULT, trust_domain="my.org", access_log_file="/dev/stdout", drain_duration=timedelta(seconds=7)),
        [],
    )
    assert with_shared("", "{trustDomain: shared.org}") == (replace(DEFAULT, trust_domain="shared.org"), [])


def test_findings_name_the_config_map_that_they_are_about() -> None:
    found, told = with_shared("{ingressClass: a}", "{ingressSelector: b, noSuchField: 1, trustDomain: shared.org}")
    assert found == replace(DEFAULT, trust_domain="shared.org")
    assert sorted(name for name, _ in told) == ["istio", "shared", "shared"]
    found, told = with_shared("{trustDomain: my.org}", "{trustDomain: [1], accessLogFile: x}")
    assert found == replace(DEFAULT, trust_domain="my.org")
    ((name, message),) = told
    assert name == "shared"
    assert message.endswith("; the shared settings are left out")
    found, told = with_shared("{trustDomain: [1]}", "{trustDomain: shared.org}")
    assert found == DEFAULT
    assert [name for name, _ in told] == ["istio"]


def test_names_that_envoy_would_refuse_are_left_out_and_told() -> None:
    found, told = read("""
        meshMTLS: {cipherSuites: [AES128-SHA, NONE]}
        tlsDefaults: {cipherSuites: [SOME, AES256-SHA], ecdhCurves: [P-1, P-256]}
    """)
    assert found.mesh_cipher_suites == ("AES128-SHA",)
    assert found.tls_defaults == TlsDefaults(cipher_suites=("AES256-SHA",), curves=("P-256",))
    assert told == [
        ("BAD_VALUE", "data.mesh.meshMTLS.cipherSuites"),
        ("BAD_VALUE", "data.mesh.tlsDefaults.cipherSuites"),
        ("BAD_VALUE", "data.mesh.tlsDefaults.ecdhCurves"),
    ]


def test_of_a_default_policy_only_connections_and_ejection_count() -> None:
    _, told = read("defaultTrafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE}, connectionPool: {}}")
    assert told == [
        ("NOT_SUPPORTED", "data.mesh.defaultTrafficPolicy.loadBalancer"),
        ("NOT_SUPPORTED", "data.mesh.defaultTrafficPolicy.tls"),
    ]

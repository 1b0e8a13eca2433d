from __future__ import annotations

import re
from datetime import timedelta

import pytest

from istiod import features
from istiod.config.store import ConfigStore
from istiod.features import Features, KeyFetch
from istiod.mesh import mesh_config


def test_variables_have_istios_names_and_defaults() -> None:
    assert features.read({"PATH": "/bin", "PILOT_HTTP10": ""}) == (Features(), ())
    assert features.read({"KEY": "k"})[0].environment == {"KEY": "k"}  # envName of a provider's header
    found, problems = features.read(
        {
            "PILOT_HTTP10": "True",
            "PILOT_SCOPE_GATEWAY_TO_NAMESPACE": "true",
            "PILOT_TRACE_SAMPLING": "80",
            "PILOT_DNS_JITTER_DURATION": "0s",
            "PILOT_DNS_CARES_UDP_MAX_QUERIES": "99",
            "PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT": "30s",
            "ENABLE_NATIVE_SIDECARS": "TRUE",
            "ENABLE_LEADER_ELECTION": "false",
            "PLATFORM": "openshift",
            "PILOT_ENVOY_ADMISSION_TIMEOUT": "0s",
            "PILOT_MAX_STREAMS_PER_IDENTITY": "0",
            "PILOT_MEMORY_LIMIT": "512Mi",
            "PILOT_SOURCE_AGE_LIMIT": "1m",
            "PILOT_ACCESS_LOG_RULES": "false",
        }
    )
    assert problems == ()
    assert found == Features(
        http10=True,
        scope_gateways=True,
        trace_sampling=80,
        dns_jitter=timedelta(0),
        dns_queries=99,
        gateway_handshake=timedelta(seconds=30),
        native_sidecars="true",
        leader_election=False,
        openshift=True,
        envoy_admission=timedelta(0),
        streams_per_identity=0,
        memory_limit=512 << 20,
        source_age=timedelta(minutes=1),
        log_rules=False,
    )
    found, problems = features.read(
        {
            "DEFAULT_WORKLOAD_CERT_TTL": "90m",
            "MAX_WORKLOAD_CERT_TTL": "87600h",
            "SELF_SIGNED_CA_CERT_TTL": "720h",
            "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL": "0s",
            "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE": "50",
        }
    )
    assert problems == ()
    assert found == Features(
        certificate_life=timedelta(minutes=90),
        certificate_longest=timedelta(days=3650),
        root_life=timedelta(days=30),
        root_check=timedelta(0),
        root_grace=50.0,
    )
    found, problems = features.read({"DEFAULT_WORKLOAD_CERT_TTL": "48h", "MAX_WORKLOAD_CERT_TTL": "24h"})
    assert problems == ("DEFAULT_WORKLOAD_CERT_TTL is longer than MAX_WORKLOAD_CERT_TTL, which holds for both",)
    assert found.certificate_life == timedelta(hours=24)
    for text in ("0s", "2000000h", "long"):
        assert features.read({"SELF_SIGNED_CA_CERT_TTL": text})[0] == Features()
    found, problems = features.read(
        {
            "PILOT_JWT_ENABLE_REMOTE_JWKS": "True",
            "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL": "1m",
            "BLOCKED_CIDRS_IN_JWKS_URIS": "10.0.0.0/8, 169.254.169.254",
            "ALLOWED_CIDRS_IN_JWKS_URIS": "10.1.2.3/16",
        }
    )
    assert problems == ()
    assert found == Features(
        key_fetch=KeyFetch.HYBRID,
        key_refresh=timedelta(minutes=1),
        keys_blocked=("10.0.0.0/8", "169.254.169.254/32"),
        keys_allowed=("10.1.0.0/16",),
    )
    for text, mode in (("false", KeyFetch.ISTIOD), ("Istiod", KeyFetch.ISTIOD), ("envoy", KeyFetch.ENVOY)):
        assert features.read({"PILOT_JWT_ENABLE_REMOTE_JWKS": text})[0].key_fetch is mode
    for name, text in (
        ("PILOT_JWT_ENABLE_REMOTE_JWKS", "maybe"),
        ("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "0s"),
        ("BLOCKED_CIDRS_IN_JWKS_URIS", "10.0.0.0/8,x"),
    ):
        assert features.read({name: text})[0] == Features()
        assert len(features.read({name: text})[1]) == 1
    assert features.read({"ENABLE_NATIVE_SIDECARS": "auto"})[0].native_sidecars == "auto"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PILOT_HTTP10", "perhaps"),
        ("ENABLE_NATIVE_SIDECARS", "perhaps"),
        ("ENABLE_LEADER_ELECTION", "off"),
        ("PILOT_TRACE_SAMPLING", "-1"),
        ("PILOT_TRACE_SAMPLING", "nan"),
        ("PILOT_TRACE_SAMPLING", "much"),
        ("PILOT_DNS_JITTER_DURATION", "soon"),
        ("PILOT_DNS_JITTER_DURATION", "-1s"),
        ("PILOT_DNS_CARES_UDP_MAX_QUERIES", "-1"),
        ("PILOT_DNS_CARES_UDP_MAX_QUERIES", "4294967296"),
        ("PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT", "300h"),
        ("PILOT_MAX_STREAMS_PER_IDENTITY", "many"),
        ("PILOT_MEMORY_LIMIT", "much"),
        ("PILOT_JWT_ENABLE_REMOTE_JWKS", "maybe"),
    ],
)
def test_a_variable_that_cannot_be_read_keeps_its_default_and_is_told(name: str, text: str) -> None:
    found, (problem,) = features.read({name: text})
    assert found == Features()
    assert problem.startswith(f"{name}={text}: ")
    assert not re.search(r"\bfloat\b|int\(\)|KeyFetch", problem)  # Python's own words


def test_the_settings_of_the_mesh_hold_them() -> None:
    store = ConfigStore(features=Features(dns_queries=7))
    assert mesh_config.read(store.snapshot(), None)[0].features.dns_queries == 7

from __future__ import annotations

from datetime import timedelta

import pytest

from istiod import features
from istiod.config.store import ConfigStore
from istiod.features import Features
from istiod.mesh import mesh_config


def test_variables_have_istios_names_and_defaults() -> None:
    assert features.read({"PATH": "/bin", "PILOT_HTTP10": ""}) == (Features(), ())
    found, problems = features.read(
        {
            "PILOT_HTTP10": "True",
            "PILOT_TRACE_SAMPLING": "80",
            "PILOT_DNS_JITTER_DURATION": "0s",
            "PILOT_DNS_CARES_UDP_MAX_QUERIES": "99",
            "PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT": "30s",
            "ENABLE_NATIVE_SIDECARS": "TRUE",
            "ENABLE_LEADER_ELECTION": "false",
            "PLATFORM": "openshift",
        }
    )
    assert problems == ()
    assert found == Features(
        http10=True,
        trace_sampling=80,
        dns_jitter=timedelta(0),
        dns_queries=99,
        gateway_handshake=timedelta(seconds=30),
        native_sidecars="true",
        leader_election=False,
        openshift=True,
    )
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
    ],
)
def test_a_variable_that_cannot_be_read_keeps_its_default_and_is_told(name: str, text: str) -> None:
    found, (problem,) = features.read({name: text})
    assert found == Features()
    assert problem.startswith(f"{name}={text}: ")


def test_the_settings_of_the_mesh_hold_them() -> None:
    store = ConfigStore(features=Features(dns_queries=7))
    assert mesh_config.read(store.snapshot(), None)[0].features.dns_queries == 7

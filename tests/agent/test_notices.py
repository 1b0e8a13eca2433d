from __future__ import annotations

from agent import notices
from agent.bootstrap.inputs import Inputs


def test_what_is_asked_for_in_vain_is_said() -> None:
    environment = {
        "ISTIO_META_DNS_CAPTURE": "true",
        "CA_PROVIDER": "other",
        "XDS_ROOT_CA": "/certs",
        "CA_ADDR": "istiod:15012",
    }
    config = {"privateKeyProvider": {"cryptomb": {}}}
    assert list(notices.of(Inputs(kind="sidecar", config=config, environment=environment))) == [
        "ProxyConfig privateKeyProvider: not supported by this Envoy, ignored",
        "CA_PROVIDER is set and has no effect",
        "XDS_ROOT_CA is set and has no effect",
    ]
    assert list(notices.of(Inputs(kind="sidecar", config={}))) == []

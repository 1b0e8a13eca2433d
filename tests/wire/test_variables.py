from __future__ import annotations

from wire import variables


def test_variables_that_change_nothing_are_named() -> None:
    said = {
        "CA_PROVIDER": "GoogleCAS",
        "PKCS8_KEY": "true",
        "BOOTSTRAP_XDS_AGENT": "true",
        "PROXY_XDS_VIA_AGENT": "false",
        "ISTIO_META_DNS_CAPTURE": "true",
        "PROXY_XDS_DEBUG_VIA_AGENT": "False",
        "XDS_ROOT_CA": "",
        "PILOT_CERT_PROVIDER": "istiod",
        "POD_NAME": "web-1",
    }
    assert variables.in_vain(said) == ("CA_PROVIDER", "PROXY_XDS_VIA_AGENT")

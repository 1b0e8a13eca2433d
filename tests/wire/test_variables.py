from __future__ import annotations

from wire import variables


def test_variables_that_change_nothing_are_named() -> None:
    said = {
        "CA_PROVIDER": "GoogleCAS",
        "PKCS8_KEY": "true",
        "BOOTSTRAP_XDS_AGENT": "true",
        "ISTIO_META_DNS_CAPTURE": "true",
        "PROXY_XDS_DEBUG_VIA_AGENT": "False",
        "XDS_ROOT_CA": "",
        "PILOT_CERT_PROVIDER": "istiod",
        "POD_NAME": "web-1",
    }
    assert variables.in_vain(said) == ("BOOTSTRAP_XDS_AGENT", "CA_PROVIDER")

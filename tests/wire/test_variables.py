from __future__ import annotations

from wire import variables


def test_variables_that_change_nothing_are_named() -> None:
    said = {
        "CA_PROVIDER": "GoogleCAS",
        "ECC_SIGNATURE_ALGORITHM": "ECDSA",
        "FILE_MOUNTED_CERTS": "true",
        "ISTIO_META_DNS_CAPTURE": "true",
        "PROXY_XDS_DEBUG_VIA_AGENT": "False",
        "OUTPUT_CERTS": "",
        "PILOT_CERT_PROVIDER": "istiod",
        "POD_NAME": "web-1",
    }
    assert variables.in_vain(said) == ("CA_PROVIDER", "FILE_MOUNTED_CERTS")

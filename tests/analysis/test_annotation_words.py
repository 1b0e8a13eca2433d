from __future__ import annotations

import pytest

from crds.key import ConfigKey
from istiod.analysis import annotation_words
from tests.analysis import samples

KEY = ConfigKey("", "Pod", "shop", "reviews")
READINESS, TRAFFIC = "readiness.status.sidecar.istio.io/", "traffic.sidecar.istio.io/"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        (f"{READINESS}periodSeconds", "10", ""),
        (f"{READINESS}periodSeconds", "x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        (f"{READINESS}periodSeconds", "-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (f"{READINESS}failureThreshold", "4294967296", 'strconv.ParseUint: parsing "4294967296": value out of range'),
        (f"{READINESS}failureThreshold", "0" * 30 + "1", ""),
        ("status.sidecar.istio.io/port", "15020", ""),
        (
            "status.sidecar.istio.io/port",
            "x",
            "excludeInboundPorts invalid: failed parsing port 'x': strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("sidecar.istio.io/interceptionMode", "NONE", ""),
        ("sidecar.istio.io/interceptionMode", "no", "interceptionMode invalid, use REDIRECT,TPROXY,NONE: no"),
        ("prometheus.istio.io/merge-metrics", "T", ""),
        ("prometheus.istio.io/merge-metrics", "yes", 'strconv.ParseBool: parsing "yes": invalid syntax'),
        (f"{TRAFFIC}includeInboundPorts", "*", ""),
        (f"{TRAFFIC}excludeInboundPorts", "1, 2", ""),
        (f"{TRAFFIC}excludeOutboundPorts", "", ""),
        (
            f"{TRAFFIC}excludeInboundPorts",
            "1,*",
            (
                "excludeInboundPorts invalid: failed parsing port '*': failed parsing port '*': "
                'strconv.ParseUint: parsing "*": invalid syntax'
            ),
        ),
        (f"{TRAFFIC}includeOutboundIPRanges", "*", ""),
        (f"{TRAFFIC}excludeOutboundIPRanges", "10.0.0.0/8,::/0", ""),
        (
            f"{TRAFFIC}includeOutboundIPRanges",
            "10.0.0.1",
            "includeIPRanges invalid: failed parsing cidr '10.0.0.1': netip.ParsePrefix(\"10.0.0.1\"): no '/'",
        ),
        (
            f"{TRAFFIC}excludeOutboundIPRanges",
            "*/8",
            (
                "excludeIPRanges invalid: failed parsing cidr '*/8': "
                'netip.ParsePrefix("*/8"): ParseAddr("*"): unable to parse IP'
            ),
        ),
        (
            f"{TRAFFIC}excludeOutboundIPRanges",
            "fe80::1%a/8",
            (
                "excludeIPRanges invalid: failed parsing cidr 'fe80::1%a/8': "
                'netip.ParsePrefix("fe80::1%a/8"): IPv6 zones cannot be present in a prefix'
            ),
        ),
        (
            f"{TRAFFIC}excludeOutboundIPRanges",
            "1.2.3.4/x",
            (
                "excludeIPRanges invalid: failed parsing cidr '1.2.3.4/x': "
                'netip.ParsePrefix("1.2.3.4/x"): bad bits after slash: "x"'
            ),
        ),
        (
            f"{TRAFFIC}excludeOutboundIPRanges",
            "1.2.3.4/33",
            (
                "excludeIPRanges invalid: failed parsing cidr '1.2.3.4/33': "
                'netip.ParsePrefix("1.2.3.4/33"): prefix length out of range'
            ),
        ),
        ("sidecar.istio.io/proxyCPU", "much", "must be a quantity such as 100m, not 'much'"),
        ("sidecar.istio.io/proxyCPU", "100m", ""),
        ("proxy.istio.io/config", "concurrency: 1", ""),
        (
            "proxy.istio.io/config",
            "concurrency: many",
            "failed to convert to apply proxy config: must be a valid integer",
        ),
        ("networking.istio.io/exportTo", "anything", ""),
    ],
)
def test_values_are_wrong_in_the_words_of_istio(name: str, value: str, wanted: str) -> None:
    found = annotation_words.problem(name, value, KEY)
    assert found.startswith(wanted) if wanted else found == ""


def test_a_pod_with_a_bad_configuration_is_told_before_it_is_injected() -> None:
    pod = """
        apiVersion: v1
        kind: Pod
        metadata: {name: a, namespace: shop, annotations: {proxy.istio.io/config: "drainDuration: soon"}}
        spec: {containers: [{name: a, image: a}]}
        """
    assert ("IST0125", "Pod shop/a") in samples.said(samples.MESH, pod)

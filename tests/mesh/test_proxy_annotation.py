"""The pod annotation ``proxy.istio.io/config``, as the control plane sees it."""

from __future__ import annotations

from tests.mesh import fleet


def test_what_a_pod_says_in_vain_of_its_proxy_is_told_as_long_as_it_is_there() -> None:
    headers = "{requestId: {disabled: true}, attemptCount: {disabled: true}, xForwardedHost: {}}"
    said = f"proxyHeaders: {headers}\ngatewayTopology: {{numTrustedProxies: 2}}\nconcurrency: 2\n"
    pod = fleet.pod("web-1", "10.1.0.1", annotations={"proxy.istio.io/config": said})
    other = fleet.pod("other-1", "10.1.0.2", annotations={"proxy.istio.io/config": "[]"})
    plain = fleet.pod("web-1", "10.1.0.1", annotations={"proxy.istio.io/config": "concurrency: 2"})
    field = "metadata.annotations[proxy.istio.io/config]"
    mesh = fleet.Mesh(pod, other, fleet.pod("plain-1", "10.1.0.3"))
    wrong = ("BAD_VALUE", "other-1", field)
    expected = [
        wrong,
        ("NOT_SUPPORTED", "web-1", f"{field}.proxyHeaders.attemptCount"),
        ("NOT_SUPPORTED", "web-1", f"{field}.proxyHeaders.xForwardedHost"),
    ]
    assert mesh.told() == expected
    mesh.apply(fleet.pod("third-1", "10.1.0.4"))
    assert mesh.told() == expected
    mesh.apply(plain)
    assert mesh.told() == [wrong]
    mesh.remove(other)
    assert mesh.told() == []


def test_what_is_no_yaml_is_told() -> None:
    mesh = fleet.Mesh(fleet.pod("web-1", "10.1.0.1", annotations={"proxy.istio.io/config": "a: [b"}))
    assert mesh.told() == [("UNREADABLE", "web-1", "metadata.annotations[proxy.istio.io/config]")]


def test_an_empty_configuration_says_nothing() -> None:
    mesh = fleet.Mesh(fleet.pod("web-1", "10.1.0.1", annotations={"proxy.istio.io/config": "# nothing"}))
    assert mesh.told() == []


def test_what_no_environment_can_hold_is_told() -> None:
    said = "proxyMetadata: {GOOD_NAME: x, 'BAD NAME': x}"
    mesh = fleet.Mesh(fleet.pod("web-1", "10.1.0.1", annotations={"proxy.istio.io/config": said}))
    assert mesh.told() == [("BAD_VALUE", "web-1", "metadata.annotations[proxy.istio.io/config].proxyMetadata")]


def test_limits_of_connections_are_the_meshs_to_set_but_for_the_one_of_the_bootstrap() -> None:
    said = "connectionSettings: {globalDownstreamConnectionLimit: 9, httpIdleTimeout: 1s, httpMergeSlashes: true}"
    mesh = fleet.Mesh(fleet.pod("web-1", "10.1.0.1", annotations={"proxy.istio.io/config": said}))
    field = "metadata.annotations[proxy.istio.io/config].connectionSettings"
    assert mesh.told() == [("NOT_SUPPORTED", "web-1", f"{field}.{x}") for x in ("httpIdleTimeout", "httpMergeSlashes")]

from __future__ import annotations

import pytest

from istiod.mesh import sidecars
from istiod.mesh.service import Labels, Protocol
from istiod.mesh.settings import OutboundMode
from istiod.mesh.sidecars import Sidecar, SidecarIndex
from tests.mesh import world

ANY = "{egress: [{hosts: ['*/*']}]}"
WEB = "{workloadSelector: {labels: {app: web}}, egress: [{hosts: ['*/*']}]}"


def index(*texts: str) -> SidecarIndex:
    return sidecars.build(world.snapshot(*texts), "istio-system", SidecarIndex())


def only(spec: str) -> Sidecar:
    (found,) = index(world.sidecar(spec)).by_key.values()
    return found


def told(*texts: str, pods: tuple[tuple[str, Labels], ...] = ()) -> list[tuple[str, str, str]]:
    found = sidecars.findings(index(*texts), pods)
    return [(one.code.name, one.key.name if one.key else "", one.field) for one in found]


@pytest.mark.parametrize(
    ("namespace", "labels", "expected"),
    [
        ("default", {"app": "web"}, "web"),
        ("default", {"app": "shop"}, "default"),
        ("default", {}, "default"),
        ("other", {"app": "web"}, "root"),
        ("istio-system", {}, "root"),
    ],
)
def test_a_selector_comes_before_the_namespaces_default_and_that_before_the_meshs(
    namespace: str, labels: dict[str, str], expected: str
) -> None:
    found = index(
        world.sidecar(WEB, name="web"),
        world.sidecar(ANY),
        world.sidecar(ANY, name="root", namespace="istio-system"),
        world.sidecar(WEB, name="of-root-only", namespace="istio-system"),
    ).choose(namespace, frozenset(labels.items()))
    assert found is not None
    assert found.key.name == expected


def test_without_sidecars_nobody_has_one() -> None:
    assert index().choose("default", frozenset()) is None


def test_of_several_the_oldest_speaks() -> None:
    old, new = "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"
    found = index(
        world.sidecar(ANY, name="a-new", created=new),
        world.sidecar(ANY, name="b-old", created=old),
        world.sidecar(WEB, name="c-new", created=new),
        world.sidecar(WEB, name="d-old", created=old),
    )
    default, web = (
        found.choose("default", labels) for labels in (frozenset[tuple[str, str]](), frozenset({("app", "web")}))
    )
    assert default is not None
    assert web is not None
    assert (default.key.name, web.key.name) == ("b-old", "d-old")


def test_what_has_no_effect_is_told() -> None:
    assert told(
        world.sidecar(ANY, name="first"),
        world.sidecar(ANY, name="second"),
        world.sidecar(WEB, name="web"),
        world.sidecar(WEB, name="selects-one", namespace="shop"),
        world.sidecar(
            """
            ingress: [{port: {number: 443, protocol: HTTPS}, tls: {mode: SIMPLE, insecureSkipVerify: true}}]
            """,
            name="much",
            namespace="third",
        ),
        pods=(("shop", frozenset({("app", "web"), ("x", "y")})), ("elsewhere", frozenset({("app", "web")}))),
    ) == [
        ("INEFFECTIVE", "second", "spec.workloadSelector"),
        ("INEFFECTIVE", "web", "spec.workloadSelector.labels"),
        ("NOT_SUPPORTED", "much", "spec.ingress[0].tls.insecureSkipVerify"),
    ]


def test_what_an_inbound_listener_has_no_use_for_is_told() -> None:
    text = """
      inboundConnectionPool: {tcp: {idleTimeout: 1s, maxConnections: 1}, http: {h2UpgradePolicy: UPGRADE}}
      ingress:
      - port: {number: 443, protocol: HTTPS}
        tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k, caCrl: /crl, insecureSkipVerify: true}
        connectionPool: {http: {idleTimeout: 1s, maxRetries: 1}}
      - {port: {number: 444, protocol: HTTPS}, connectionPool: {tcp: {idleTimeout: 0s}}}
    """
    assert sorted(field for _, _, field in told(world.sidecar(text))) == [
        "spec.inboundConnectionPool.http.h2UpgradePolicy",
        "spec.inboundConnectionPool.tcp.idleTimeout",
        "spec.ingress[0].tls.caCrl",
        "spec.ingress[0].tls.insecureSkipVerify",
        "spec.ingress[1].connectionPool.tcp.idleTimeout",
    ]


def test_the_same_sidecars_are_the_same_index() -> None:
    first = index(world.sidecar(ANY))
    assert sidecars.build(world.snapshot(world.sidecar(ANY)), "istio-system", first) is first
    assert sidecars.build(world.snapshot(world.sidecar(WEB)), "istio-system", first) is not first


@pytest.mark.parametrize(
    ("endpoint", "address", "target"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        ("0.0.0.0:8080", "", 8080),
        ("[::]:8080", "", 8080),
        ("unix:///a/b", "/a/b", 0),
        ("", "", 0),
        ("nonsense", "", 0),
    ],
)
def test_an_endpoint_says_where_the_app_listens(endpoint: str, address: str, target: int) -> None:
    found = only(f"{{ingress: [{{port: {{number: 80, protocol: HTTP}}, defaultEndpoint: '{endpoint}'}}]}}").ingress[0]
    assert (found.port.number, found.port.protocol, found.address, found.target) == (80, Protocol.HTTP, address, target)


@pytest.mark.parametrize(("mode", "binds"), [("DEFAULT", None), ("NONE", True), ("IPTABLES", False)])
def test_capture_decides_whether_a_listener_binds(mode: str, binds: bool | None) -> None:  # noqa: FBT001 (three-valued)
    found = only(
        f"{{egress: [{{captureMode: {mode}, hosts: ['*/*']}}], ingress: [{{captureMode: {mode}, port: {{}}}}]}}"
    )
    assert (found.egress[0].binds, found.ingress[0].binds) == (binds, binds)


def test_limits_of_a_port_come_before_those_of_all_ports() -> None:
    found = only(
        """
        inboundConnectionPool: {tcp: {maxConnections: 1}}
        ingress:
        - {port: {number: 80}, connectionPool: {tcp: {maxConnections: 2}}}
        - {port: {number: 81}}
        """
    )
    pools = [found.pool_of(port) for port in (80, 81, 82)]
    assert [pool.max_connections if pool else None for pool in pools] == [2, 1, 1]
    assert only(ANY).pool_of(80) is None


def test_what_is_not_said_is_everything() -> None:
    found = only("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
    assert found.outbound is OutboundMode.REGISTRY_ONLY
    assert [one.patterns("default") for one in found.egress] == [({"*": ("*",)}, {})]


@pytest.mark.parametrize(
    ("hosts", "seen", "hidden"),
    [
        (["./a.com", "./B.com", "x/*"], {"here": ("a.com", "b.com"), "x": ("*",)}, {}),
        (["*/*", "~x/*", "~./a.com"], {"*": ("*",)}, {"x": ("*",), "here": ("a.com",)}),
        (["./a.com", "~/*"], {}, {}),
        (["no-slash"], {}, {}),
    ],
)
def test_hosts_name_what_is_seen(
    hosts: list[str], seen: dict[str, tuple[str, ...]], hidden: dict[str, tuple[str, ...]]
) -> None:
    assert only(f"{{egress: [{{hosts: {hosts}}}]}}").egress[0].patterns("here") == (seen, hidden)

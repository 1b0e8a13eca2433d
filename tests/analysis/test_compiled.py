"""What only the compiled mesh shows: both sides of a connection together."""

from __future__ import annotations

import pytest

from tests.analysis import samples

STRICT = """
    apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {name: strict, namespace: shop}
    spec: {mtls: {mode: STRICT}}
    """
NO_MTLS = """
    apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {name: none, namespace: shop}
    spec: {mtls: {mode: DISABLE}}
    """


def rule(mode: str, host: str = "reviews") -> str:
    return f"""
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {{name: reviews, namespace: shop}}
    spec:
      host: {host}
      trafficPolicy: {{tls: {{mode: {mode}}}}}
    """


def routes(http: str, host: str = "reviews") -> str:
    return f"""
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {{name: reviews, namespace: shop}}
    spec:
      hosts: [{host}]
      http: {http}
    """


@pytest.mark.parametrize(
    ("mode", "peers", "impossible"),
    [
        ("DISABLE", STRICT, True),
        ("DISABLE", NO_MTLS, False),
        ("DISABLE", "", False),
        ("ISTIO_MUTUAL", STRICT, False),
        ("ISTIO_MUTUAL", NO_MTLS, True),
        ("ISTIO_MUTUAL", "", False),
    ],
)
def test_tls_of_client_and_server_have_to_go_together(mode: str, peers: str, impossible: bool) -> None:  # noqa: FBT001 (a case)
    found = samples.said(samples.MESH, rule(mode), peers)
    assert found == ([("M0150", "DestinationRule shop/reviews")] if impossible else [])


def test_mutual_tls_to_a_workload_without_a_sidecar_is_impossible_and_says_which() -> None:
    outside = samples.MESH.replace("labels: {istio-injection: enabled}", "labels: {istio-injection: disabled}")
    (one,) = [each for each in samples.analyse(outside, rule("ISTIO_MUTUAL")) if each.type.code == "M0150"]
    assert "pod shop/reviews has no sidecar" in str(one)
    assert one.reference == "1.yaml:1"


def test_a_rule_that_another_hides_from_all_clients_is_not_judged() -> None:
    wide = rule("DISABLE", "'*.shop.svc.cluster.local'").replace("name: reviews", "name: wide")
    assert samples.said(samples.MESH, wide, rule("ISTIO_MUTUAL"), STRICT) == []


def test_a_mesh_without_automatic_mutual_tls_cannot_reach_strict_servers_without_a_rule() -> None:
    found = samples.said(samples.MESH, STRICT, mesh={"enableAutoMtls": False})
    assert found == [("M0150", "Service shop/reviews")]


def test_a_subset_without_servers_is_told_where_requests_go_to_it() -> None:
    subsets = """
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews, namespace: shop}
    spec:
      host: reviews
      subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
    """
    to = "[{route: [{destination: {host: reviews, subset: %s}}]}]"
    assert samples.said(samples.MESH, subsets, routes(to % "v1")) == [("IST0173", "DestinationRule shop/reviews")]
    assert ("M0151", "VirtualService shop/reviews") in samples.said(samples.MESH, subsets, routes(to % "v2"))


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ("uri: {prefix: /api}", "uri: {prefix: /api/v1}, headers: {x: {exact: y}}", True),
        ("uri: {prefix: /api}, headers: {x: {exact: y}}", "uri: {prefix: /api/v1}", False),
        ("headers: {x: {exact: y}}", "uri: {exact: /a}, headers: {x: {exact: y}, z: {exact: y}}", True),
        ("uri: {prefix: /api}, port: 9080", "uri: {prefix: /api/v1}, method: {exact: PUT}", False),
        ("uri: {regex: /a.*}", "uri: {exact: /ab}", False),
        ("uri: {prefix: /API}, ignoreUriCase: true", "uri: {exact: /api/v1}", True),
        ("uri: {prefix: /a}, sourceNamespace: other", "uri: {exact: /api/v1}", False),
    ],
)
def test_a_route_whose_requests_an_earlier_one_takes_is_shadowed(first: str, second: str, hidden: bool) -> None:  # noqa: FBT001 (a case)
    to = "route: [{destination: {host: reviews}}]"
    http = f"[{{match: [{{{first}}}], {to}}}, {{match: [{{{second}}}], {to}}}]"
    found = samples.said(samples.MESH, routes(http))
    assert (("M0152", "VirtualService shop/reviews") in found) is hidden


def test_http_rules_for_a_port_that_is_tcp_have_no_effect() -> None:
    tcp = samples.MESH.replace("name: http}", "name: tcp}")
    assert samples.said(tcp, routes("[{route: [{destination: {host: reviews}}]}]")) == [
        ("M0153", "VirtualService shop/reviews")
    ]


def policy(action: str, source: str, operation: str = "") -> str:
    return f"""
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {{name: who, namespace: shop}}
    spec:
      selector: {{matchLabels: {{app: reviews}}}}
      action: {action}
      rules:
      - from: [{{source: {{{source}}}}}]
        {operation}
    """


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (policy("ALLOW", "principals: [cluster.local/ns/shop/sa/review]"), ["M0154"]),
        (policy("ALLOW", "principals: [cluster.local/ns/shop/sa/reviews]"), []),
        (policy("ALLOW", "principals: ['*/sa/reviews']"), []),
        (policy("ALLOW", "serviceAccounts: [review]"), ["M0154"]),
        (policy("ALLOW", "serviceAccounts: [reviews]"), []),
        (policy("ALLOW", "notNamespaces: [shop]"), []),
        (policy("ALLOW", "ipBlocks: [10.0.0.0/8]"), []),
        (policy("DENY", "namespaces: [shop]"), ["M0155"]),
        (policy("DENY", "notPrincipals: [cluster.local/ns/shop/sa/reviews]"), []),
        (policy("DENY", "notPrincipals: [cluster.local/ns/shop/sa/typo]"), ["M0155"]),
        (policy("DENY", "namespaces: [shop]", "to: [{operation: {methods: [PUT]}}]"), []),
        (policy("AUDIT", "namespaces: [shop]"), []),
    ],
)
def test_policies_that_refuse_all_known_callers_are_told(text: str, codes: list[str]) -> None:
    found = [code for code, _ in samples.said(samples.MESH, text)]
    assert [code for code in found if code.startswith("M")] == codes


def test_a_policy_that_allows_nothing_on_purpose_is_no_finding() -> None:
    nothing = policy("ALLOW", "namespaces: [x]").partition("      selector")[0] + "      {}\n"
    assert samples.said(samples.MESH, nothing) == []


GATEWAY = """
    apiVersion: v1
    kind: Pod
    metadata: {name: gateway, namespace: shop, labels: {istio: gateway}}
    spec: {containers: [{name: istio-proxy, image: proxy}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: gateway, namespace: shop}
    spec:
      selector: {istio: gateway}
      ports: [{port: 80, targetPort: 8080, name: http, protocol: TCP}]
    ---
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: gateway, namespace: shop}
    spec:
      selector: {istio: gateway}
      servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.com]}]
    """


@pytest.mark.parametrize(("port", "codes"), [(80, ["M0156"]), (8080, [])])
def test_a_policy_for_the_port_of_a_gateways_service_protects_nothing(port: int, codes: list[str]) -> None:
    """SEC49: ports of a gateway's policy are those of its pods."""
    text = policy("DENY", "ipBlocks: [10.0.0.0/8]", f"to: [{{operation: {{ports: ['{port}']}}}}]")
    found = samples.said(samples.MESH, GATEWAY, text.replace("app: reviews", "istio: gateway"))
    assert [code for code, _ in found] == codes


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("reviews.shop.svc.cluster.local", "M0157"),
        ("'*.svc.cluster.local'", "M0158"),
        ("'*.local'", "M0158"),
        ("'*.com'", "M0159"),
        ("'*.example.com'", ""),
        ("example.com", ""),
    ],
)
def test_service_entries_for_others_hosts_are_told(host: str, code: str) -> None:
    """SEC64: the service of Kubernetes wins, and whoever wrote the entry hears of it."""
    entry = f"""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {{name: out, namespace: default}}
    spec:
      hosts: [{host}]
      ports: [{{number: 443, name: tls, protocol: TLS}}]
      location: MESH_EXTERNAL
      resolution: NONE
    """
    found = [each for each, _ in samples.said(samples.MESH, entry) if each.startswith("M")]
    assert found == ([code] if code else [])


def test_what_istiod_leaves_without_effect_is_told_with_its_own_code() -> None:
    text = rule("DISABLE").replace("{mode: DISABLE}", "{mode: DISABLE, sni: a.com}")
    (one,) = [each for each in samples.analyse(samples.MESH, text) if each.type.code == "M0108"]
    assert one.reference == "1.yaml:7"
    assert "spec.trafficPolicy.tls.sni" in one.text


def test_services_of_files_do_not_share_an_address() -> None:
    service = """
    apiVersion: v1
    kind: Service
    metadata: {name: %s}
    spec: {ports: [{port: 3306, name: tcp}]}
    """
    assert samples.said(service % "one", service % "two") == []
    shared = "spec: {clusterIP: 10.0.0.1, "
    both = [(service % name).replace("spec: {", shared) for name in ("one", "two")]
    assert [code for code, _ in samples.said(*both)] == ["M0109"]

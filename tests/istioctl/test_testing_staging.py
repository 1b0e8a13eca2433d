"""The mesh that traffic tests run on real Envoys: what of the files stays, and what stands for their apps."""

from __future__ import annotations

from typing import Any

import yaml

from istioctl.offline import world
from istioctl.testing.envoys import replies, settled, staging
from tests.mesh import fleet

FILES = """
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop}
  spec:
    replicas: 2
    selector: {matchLabels: {app: web}}
    template:
      metadata:
        labels: {app: web, version: v1}
        annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "25"}
      spec:
        serviceAccountName: seller
        nodeSelector: {disk: ssd}
        containers:
        - {name: web, image: nobody/knows, env: [{name: A, value: b}], ports: [{containerPort: 8080}]}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8081}]}
- apiVersion: v1
  kind: Service
  metadata: {name: each, namespace: shop}
  spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80}]}
- apiVersion: networking.istio.io/v1
  kind: Sidecar
  metadata: {name: own, namespace: shop}
  spec:
    ingress:
    - {port: {number: 9000, name: http, protocol: HTTP}, defaultEndpoint: "127.0.0.1:9001"}
    - {port: {number: 9002, name: http-b, protocol: HTTP}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "{accessLogFormat: x, accessLogFile: '', trustDomain: a.example}"}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: plain, labels: {app: alone}}
spec: {containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: plain}
"""
TOKENS = fleet.istio(
    "RequestAuthentication",
    "t",
    {"jwtRules": [{"issuer": "me", "jwksUri": "https://me.example/keys"}, {"issuer": "b"}]},
)


def staged(text: str, keys: str = "") -> dict[str, dict[str, Any]]:
    texts = {"a.yaml": text.encode()}
    found = staging.documents(texts, world.of_contents(texts), (7000,), keys)
    assert list(yaml.safe_load_all(staging.text(found))) == found
    return {f"{one['kind']}/{one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one for one in found}


def test_every_pod_is_an_echo_with_the_labels_ports_and_account_of_the_files() -> None:
    found = staged(FILES)
    pod = found["Pod/shop/web-1"]
    assert "Pod/shop/web-0" in found
    assert not any(name.startswith(("Deployment/", "List/")) for name in found)
    labels = {"app": "web", "version": "v1", "sidecar.istio.io/inject": "true"}
    assert pod["metadata"]["labels"] == labels
    assert pod["metadata"]["annotations"] == {"traffic.sidecar.istio.io/excludeOutboundPorts": "25"}
    assert pod["spec"]["serviceAccountName"] == "seller"
    (container,) = pod["spec"]["containers"]
    assert container["command"][-2:] == ["web.shop", "80,7000,8080,8081,9001"]
    assert "nodeSelector" not in pod["spec"]
    assert "ServiceAccount/shop/seller" in found
    assert found["Pod/plain/alone"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert found["Pod/istioctl-test/outside"]["metadata"]["labels"] == {"sidecar.istio.io/inject": "false"}
    assert {"Namespace//shop", "Namespace//plain", "Namespace//istioctl-test"} <= found.keys()


def test_services_keep_their_ports_but_no_address() -> None:
    found = staged(FILES)
    spec = found["Service/shop/web"]["spec"]
    assert "clusterIP" not in spec
    assert (spec["ports"][0]["port"], spec["ports"][0]["targetPort"]) == (80, 8081)
    assert found["Service/shop/each"]["spec"]["clusterIP"] == "None"


def test_the_access_log_is_istios_and_other_settings_stay() -> None:
    settings = yaml.safe_load(staged(FILES)["ConfigMap/istio-system/istio"]["data"]["mesh"])
    assert settings == {"accessLogFile": "/dev/stdout", "trustDomain": "a.example"}
    settings = yaml.safe_load(staged(TOKENS)["ConfigMap/istio-system/istio"]["data"]["mesh"])
    assert settings == {"accessLogFile": "/dev/stdout"}


def test_keys_of_issuers_are_ours_only_where_tests_bring_tokens() -> None:
    plain, own = (staged(TOKENS, keys)["RequestAuthentication/default/t"]["spec"]["jwtRules"] for keys in ("", "K"))
    assert plain[0]["jwksUri"] == "https://me.example/keys"
    assert own == [{"issuer": "me", "jwks": "K"}, {"issuer": "b", "jwks": "K"}]


def test_an_object_that_stands_twice_is_the_first() -> None:
    texts = {"a.yaml": TOKENS.encode(), "b.yaml": TOKENS.replace("me", "you").encode()}
    found = staging.documents(texts, world.of_contents(texts), (), "")
    (one,) = (each for each in found if each["kind"] == "RequestAuthentication")
    assert one["spec"]["jwtRules"][0]["issuer"] == "me"


def test_a_mesh_is_settled_once_all_proxies_know_all_endpoints() -> None:
    proxy = {"settled": True}
    serving = {"kind": "EndpointSlice", "endpoints": [{"conditions": {"ready": True}}]}
    starting = {"kind": "EndpointSlice", "endpoints": [{"conditions": {"ready": False}}]}
    assert settled.is_settled([proxy, proxy], [serving, {"kind": "Service"}], 2)
    assert not settled.is_settled([proxy], [serving], 2)
    assert not settled.is_settled([proxy, {"settled": False}], [serving], 2)
    assert not settled.is_settled([proxy, proxy], [serving, starting], 2)


def test_a_connection_that_ends_and_a_503_do_not_say_who_refused() -> None:
    base: dict[str, Any] = {"headers": {}, "body": "", "echo": None, "failure": "", "seconds": 0.5, "status": 0}
    refused = {**base, "status": 403, "body": "RBAC: access denied"}
    own = {**base, "status": 403, "body": "from the app's own route"}
    reset, away = {**base, "failure": "reset"}, {**base, "status": 503}
    seen = replies.seen([refused, refused, own, reset, away], None)
    assert [(one.share, one.denied, one.closed) for one in seen.endings] == [
        (40, True, False),
        (20, False, False),
        (20, None, True),
        (20, None, False),
    ]
    assert (seen.sample, seen.seconds, seen.tells) == (5, 0.5, frozenset())


def test_lines_that_are_no_requests_of_tests_are_passed_over() -> None:
    assert replies.logged(['half a line of istioctl-test/1\n[x] "GET / HTTP/1.1" 200 - - - "-" 0 0\n']) == {}

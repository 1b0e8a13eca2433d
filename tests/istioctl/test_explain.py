"""``explain`` on the BookInfo of this repository: what a person asks, and what is said when the question is bad."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from istioctl import __main__ as program
from istioctl.offline import world
from istiod.debug import dumps, registryz
from tests.istioctl.test_control_plane import istiod
from tests.mesh import fleet

BOOKINFO = Path(__file__).parents[2] / "examples" / "bookinfo"
BASE = ("bookinfo.yaml", "networking/destination-rules.yaml", "networking/gateway.yaml")
POLICY = fleet.istio(
    "AuthorizationPolicy",
    "viewers",
    {
        "selector": {"matchLabels": {"app": "reviews"}},
        "rules": [
            {
                "from": [{"source": {"principals": ["cluster.local/ns/default/sa/bookinfo-productpage"]}}],
                "to": [{"operation": {"methods": ["GET"]}}],
            }
        ],
    },
)
STRICT = fleet.istio("PeerAuthentication", "strict", {"mtls": {"mode": "STRICT"}})


class Asking:
    """``istioctl explain`` over BookInfo and some YAML of the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self._folder = folder

    def files(self, *more: str) -> list[str]:
        """The flags that name BookInfo, files beside it, and texts."""
        found = []
        for number, each in enumerate((*BASE, *more)):
            path = BOOKINFO / each
            if "\n" in each:
                path = self._folder / f"{number}.yaml"
                path.write_text(each)
            found += ["-f", str(path)]
        return found

    def __call__(self, *arguments: str, more: tuple[str, ...] = ()) -> str:
        """What is printed."""
        assert program.main(["explain", *arguments, *self.files(*more)]) == 0
        return self._capsys.readouterr().out

    def json(self, *arguments: str, more: tuple[str, ...] = ()) -> Any:
        """The same for programs."""
        return json.loads(self(*arguments, "-o", "json", more=more))

    def beside(self, *arguments: str, more: tuple[str, ...] = ()) -> str:
        """What is said beside the answer."""
        assert program.main(["explain", *arguments, *self.files(*more)]) == 0
        said = self._capsys.readouterr()
        assert "POST grpc://" in said.out
        return said.err

    def refused(self, *arguments: str, more: tuple[str, ...] = ()) -> str:
        """What is said where nothing can be."""
        assert program.main(["explain", *arguments, *self.files(*more)]) == 1
        return self._capsys.readouterr().err


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Asking:
    return Asking(capsys, tmp_path)


FROM_PAGE = ("--from", "deploy/productpage.default")
JASON = "networking/reviews-jason-v2.yaml"


def outcomes(found: Mapping[str, Any]) -> dict[str, float]:
    return {one["workload"] or one["text"]: one["percent"] for one in found["outcomes"]}


def test_jason_is_sent_to_v2_and_the_line_that_says_so_is_named(ask: Asking) -> None:
    text = ask(*FROM_PAGE, "-X", "GET", "http://reviews:9080/x", "-H", "end-user: jason", more=(JASON,))
    assert "=> 100%  reaches the app of reviews-v2-0.default at port 9080" in text
    assert "<- VirtualService/default/reviews spec.http[0] (" in text
    assert f"{JASON}:9)" in text
    assert "10.244." in text
    assert "mTLS: the client proves who it is" in text


def test_others_are_sent_to_v1_and_the_rule_that_lost_is_named_with_its_reason(ask: Asking) -> None:
    text = ask(*FROM_PAGE, "http://reviews:9080/x", "-H", "end-user: bob", more=(JASON,))
    assert "reaches the app of reviews-v1-0.default" in text
    assert "not VirtualService/default/reviews spec.http[0]" in text
    assert "header end-user is 'bob', not 'jason'" in text


def test_shares_of_a_weighted_route_are_those_of_the_yaml(ask: Asking) -> None:
    found = ask.json(*FROM_PAGE, "http://reviews:9080/", more=("networking/reviews-80-20.yaml",))
    assert outcomes(found) == {"reviews-v1-0.default": 80, "reviews-v2-0.default": 20}
    (page, *servers) = found["proxies"]
    assert [one["percent"] for one in page["clusters"]] == [80, 20]
    assert {one["proxy"]: one["direction"] for one in servers} == {
        "reviews-v1-0.default": "inbound",
        "reviews-v2-0.default": "inbound",
    }


def test_an_injected_answer_is_the_clients_own_proxys(ask: Asking) -> None:
    jason = ("--from", "reviews-v2", "http://ratings:9080/1", "-H", "end-user: jason")
    found = ask.json(*jason, more=("networking/ratings-abort.yaml",))
    assert [(one["status"], one["percent"]) for one in found["outcomes"]] == [(500, 100)]
    assert [one["stage"] for one in found["proxies"][0]["steps"]][-1] == "fault"


def test_a_fault_for_a_part_of_the_requests_is_a_part_of_the_outcome(ask: Asking) -> None:
    rules = fleet.istio(
        "VirtualService",
        "details",
        {
            "hosts": ["details"],
            "http": [
                {
                    "fault": {"abort": {"percentage": {"value": 25}, "httpStatus": 555}},
                    "route": [{"destination": {"host": "details"}}],
                }
            ],
        },
    )
    found = ask.json(*FROM_PAGE, "http://details:9080/", more=(rules,))
    assert [(one["percent"], one["status"]) for one in found["outcomes"]] == [(75, None), (25, 555)]


def test_a_policy_lets_the_page_in_and_refuses_everybody_else_with_the_rule_and_the_reason(ask: Asking) -> None:
    text = ask(*FROM_PAGE, "http://reviews:9080/", more=(POLICY,))
    assert "reviews-v3-0.default, inbound, 33.3% of the requests: as reviews-v1-0.default" in text
    assert "allowed by this rule" in text
    assert "<- AuthorizationPolicy/default/viewers spec.rules[0] (" in text
    text = ask("--from", "ratings-v1", "http://reviews:9080/", more=(POLICY,))
    assert "answered 403 by reviews-v1-0.default" in text
    assert "caller is spiffe://cluster.local/ns/default/sa/bookinfo-ratings, not" in text
    text = ask(*FROM_PAGE, "-X", "POST", "http://reviews:9080/", more=(POLICY,))
    assert "header :method is 'POST', not 'GET'" in text


def test_a_client_without_a_sidecar_is_refused_where_mtls_is_asked_for(ask: Asking) -> None:
    plain = fleet.dump(
        "v1",
        "Pod",
        "plain",
        labels={"sidecar.istio.io/inject": "false"},
        spec={"containers": [{"name": "app", "image": "app"}]},
    )
    found = ask.json("--from", "plain", "http://details:9080/", more=(plain,))
    assert outcomes(found) == {"details-v1-0.default": 100}
    text = ask("--from", "plain", "http://details:9080/", more=(plain, STRICT))
    assert "=> 100%  connection closed by details-v1-0.default" in text
    text = ask(*FROM_PAGE, "http://plain.example:80/", "--ip", "10.9.9.9", more=(plain,))
    assert "leaves the mesh to 10.9.9.9:80" in text


def test_a_gateway_is_an_entry_and_the_ports_are_those_of_its_service(ask: Asking) -> None:
    text = ask("--from", "ingressgateway", "http://bookinfo.example/productpage")
    assert "istio-ingressgateway-0.istio-system, gateway" in text
    assert "reaches the app of productpage-v1-0.default" in text
    text = ask("--from", "ingressgateway", "http://bookinfo.example/nothing")
    assert "answered 404 by istio-ingressgateway-0.istio-system" in text


EGRESS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec: {hosts: [outside.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [outside.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: egress}
spec:
  hosts: [outside.example]
  gateways: [egress, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [egress], port: 80}]
    route: [{destination: {host: outside.example, port: {number: 80}}}]
"""


def test_the_way_out_leads_by_a_gateway_in_plain_text_as_its_pods_have_no_mode_of_tls(ask: Asking) -> None:
    text = ask(*FROM_PAGE, "http://outside.example/", more=(EGRESS,))
    assert "=> 100%  leaves the mesh to outside.example:80 (plain text)" in text
    assert "istio-egressgateway-0.istio-system, gateway" in text


def test_what_is_not_known_is_said_and_not_guessed(ask: Asking) -> None:
    lua = {
        "workloadSelector": {"labels": {"app": "reviews"}},
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {
                    "context": "SIDECAR_INBOUND",
                    "listener": {
                        "filterChain": {
                            "filter": {
                                "name": "envoy.filters.network.http_connection_manager",
                                "subFilter": {"name": "envoy.filters.http.router"},
                            }
                        }
                    },
                },
                "patch": {
                    "operation": "INSERT_BEFORE",
                    "value": {
                        "name": "envoy.filters.http.lua",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                            "default_source_code": {"inline_string": "function envoy_on_request(h) end"},
                        },
                    },
                },
            }
        ],
    }
    found = ask.json(
        *FROM_PAGE,
        "http://reviews:9080/",
        more=(fleet.dump("networking.istio.io/v1alpha3", "EnvoyFilter", "lua", spec=lua),),
    )
    assert not any(one["certain"] for one in found["outcomes"])
    assert any("envoy.filters.http.lua" in doubt for proxy in found["proxies"] for doubt in proxy["doubts"])


def test_objects_that_count_for_nothing_are_warned_of(ask: Asking) -> None:
    bad = fleet.istio("VirtualService", "bad", {"hosts": ["details"], "http": [{"timeout": "x"}]})
    found = ask.beside(*FROM_PAGE, "grpc://details:9080/a.b/c", more=(bad, STRICT, STRICT))
    assert "Warning: " in found
    assert "M0005" in found
    assert "1 objects stand in an earlier file, too" in found


def test_a_name_that_no_object_defines_leaves_the_mesh(ask: Asking) -> None:
    text = ask(*FROM_PAGE, "https://api.example.com/")
    assert "leaves the mesh" in text
    assert "no object defines api.example.com" in text


def test_without_a_cluster_it_is_said_what_can_be_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for arguments, said in (
        (("explain", *FROM_PAGE, "http://reviews:9080/"), "is asked with --monitoring-address HOST:PORT"),
        (("proxy-status",), "is asked with --monitoring-address HOST:PORT"),
        (("proxy-config", "route", "pod"), "a dump is read with --file"),
        (("analyze",), "files need none: istioctl analyze FILE"),
    ):
        assert program.main(list(arguments)) == 1
        assert said in capsys.readouterr().err


LINE = (
    '[2026-01-01T00:00:00.000Z] "GET /reviews/0 HTTP/1.1" 503 UH no_healthy_upstream - "-" 0 19 0 - "-" "curl/8" "a-b" '
    '"reviews:9080" "-" outbound|9080|v3|reviews.default.svc.cluster.local - 10.96.1.1:9080 10.244.1.1:40000 - - '
    "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews spec.http[0]"
)


def test_a_line_of_the_access_log_says_what_was_and_what_would_be(ask: Asking) -> None:
    text = ask("--from", "productpage-v1", "--log-line", LINE, more=(JASON,))
    assert "then: 503, no endpoint was healthy, no_healthy_upstream" in text
    assert "then: by VirtualService/default/reviews spec.http[0]" in text
    assert "the configuration has changed since" in text
    assert "reaches the app of reviews-v1-0.default" in text
    old = LINE.partition(" /apis")[0]
    assert "now it would go elsewhere" in ask("--from", "productpage-v1", "--log-line", old, more=(JASON,))


def test_a_json_line_of_the_server_is_asked_of_the_server(ask: Asking, tmp_path: Path) -> None:
    (tmp_path / "0.yaml").write_text(POLICY)
    pods = {one.name: one.address for one in world.read([str(BOOKINFO / "bookinfo.yaml")]).workloads()}
    server, client = pods["reviews-v1-0.default"], pods["ratings-v1-0.default"]
    said = {
        "method": "GET",
        "path": "/",
        "protocol": "HTTP/1.1",
        "response_code": 403,
        "response_flags": "-",
        "response_code_details": "rbac_access_denied_matched_policy[none]",
        "authority": "reviews:9080",
        "upstream_cluster": "inbound|9080||",
        "downstream_local_address": f"{server}:9080",
        "downstream_remote_address": f"{client}:41000",
        "requested_server_name": "outbound_.9080_._.reviews.default.svc.cluster.local",
    }
    text = ask("--from", "reviews-v1", "--log-line", json.dumps(said), more=(POLICY,))
    assert "answered 403 by reviews-v1-0.default" in text
    assert "caller is spiffe://cluster.local/ns/default/sa/bookinfo-ratings" in text


def test_a_line_of_a_server_behind_a_gateway_names_somebody_outside_and_hides_who_proved_himself(ask: Asking) -> None:
    pods = {one.name: one.address for one in world.read([str(BOOKINFO / "bookinfo.yaml")]).workloads()}
    line = (
        '[2026-01-01T00:00:00.000Z] "GET /productpage HTTP/1.1" 200 - via_upstream - "-" 0 1421 126 122 "203.0.113.1" '
        '"curl/8" "a-b" "bookinfo:80" "10.244.0.9:9080" inbound|9080|| 127.0.0.6:43386 '
        f"{pods['productpage-v1-0.default']}:9080 203.0.113.1:0 "
        "outbound_.9080_._.productpage.default.svc.cluster.local default - -"
    )
    text = ask("--from", "productpage-v1", "--log-line", line)
    assert "=> 100%  reaches the app of productpage-v1-0.default at port 9080" in text
    assert "now it would go elsewhere" not in text
    text = ask(
        "--from", "productpage-v1", "--log-line", line, more=(POLICY.replace("app: reviews", "app: productpage"),)
    )
    assert "doubt           whose certificate the client had: a rule asks for a name" in text


def test_a_route_to_what_nobody_defines_says_what_is_not_there(ask: Asking) -> None:
    def routed(**destination: str) -> str:
        return fleet.istio(
            "VirtualService", "reviews", {"hosts": ["reviews"], "http": [{"route": [{"destination": destination}]}]}
        )

    text = ask(*FROM_PAGE, "http://reviews:9080/", more=(routed(host="reviews", subset="v9"),))
    assert "no DestinationRule gives reviews.default.svc.cluster.local a subset 'v9' with port 9080" in text
    text = ask(*FROM_PAGE, "http://reviews:9080/", more=(routed(host="reviewz"),))
    assert "end             answered 503: there is no host reviewz.default.svc.cluster.local with port 9080" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "ghost", "http://reviews:9080/"), "there is no workload 'ghost'; there are details-v1.default"),
        ((*FROM_PAGE, "ftp://reviews/"), "no URL of http, https, grpc, tcp, tls"),
        ((*FROM_PAGE, "http://reviews:x/"), "no URL"),
        ((*FROM_PAGE, "tcp://reviews"), "needs a port"),
        ((*FROM_PAGE, "http://reviews:9080/", "-H", "end-user"), "is no header; write NAME: VALUE"),
        ((*FROM_PAGE, "http://reviews:9080/", "--claims", "x"), "claims:"),
        ((*FROM_PAGE, "http://reviews:9080/", "--claims", "[]"), "no JSON object"),
        ((*FROM_PAGE, "http://reviews:9080/", "--ip", "x"), "--ip 'x' is no IP address"),
        ((*FROM_PAGE,), "either a URL or --log-line"),
        ((*FROM_PAGE, "--log-line", "x y"), "the log line has 2 fields"),
        ((*FROM_PAGE, "--log-line", "{}"), "lacks downstream_local_address"),
        ((*FROM_PAGE, "--log-line", "{"), "no JSON"),
        ((*FROM_PAGE, "http://reviews:9080/", "-f", "/nowhere"), "there is no /nowhere"),
    ],
)
def test_a_bad_question_gets_one_line_that_says_why(ask: Asking, arguments: tuple[str, ...], words: str) -> None:
    said = ask.refused(*arguments)
    assert words in said
    assert said.count("\n") == 1


def test_a_running_istiod_is_asked_for_what_it_has_for_each_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    mesh = world.read([str(BOOKINFO / each) for each in (*BASE, JASON)])
    pages: dict[str, Any] = {"/debug/registryz": registryz.shown(mesh.context.model.registry.services)}
    clients = []
    for one in mesh.workloads():
        node = mesh.proxy(one).node
        pages[f"/debug/config_dump?proxyID={one.name}"] = dumps.config_dump(mesh.resources(one))
        clients.append({"connectionId": node.id, "labels": dict(node.labels), "metadata": dict(node.metadata)})
    pages["/debug/adsz"] = {"totalClients": len(clients), "clients": clients}
    with istiod(pages) as address:
        asked = ["explain", "--monitoring-address", address, "-H", "end-user: jason"]
        assert program.main([*asked, "--from", "productpage", "http://reviews:9080/"]) == 0
        text = capsys.readouterr().out
        assert "reaches the app of reviews-v2-0.default at port 9080" in text
        assert "<- VirtualService/default/reviews spec.http[0]\n" in text
        assert program.main([*asked, "--from", "ingressgateway", "http://b.example/productpage"]) == 0
        assert "reaches the app of productpage-v1-0.default" in capsys.readouterr().out
        assert program.main([*asked, "--from", "ghost", "http://reviews:9080/"]) == 1
        assert "no proxy of 'ghost' is connected" in capsys.readouterr().err

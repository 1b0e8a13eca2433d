"""``explain`` as a form: what it takes, what it says, and that it says what ``istioctl explain`` says."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from istiod.explain import journey
from istiod.explain.question import QuestionError
from istiod.meshpage import journeys
from istiod.meshpage.journeys import Connected, Told
from istiod.meshpage.server import MeshPage
from tests.meshpage import made
from tests.meshpage.made import Made

MOMENT = 1_000_000.0
CLIENTS = """
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.244.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain-1, namespace: shop, labels: {app: plain}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.244.0.7, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: gone-1, namespace: shop, labels: {app: gone}}
spec: {containers: [{name: app, image: app}]}
status: {phase: Pending}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: api}, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.244.0.3]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: shop}
spec:
  hosts: [vm.shop]
  addresses: [10.96.9.9]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.244.0.9}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: [a.wild.example], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {selector: {istio: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec: {hosts: [api.example], gateways: [edge], http: [{route: [{destination: {host: api}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: DENY
  rules: [{to: [{operation: {paths: [/no]}}]}]
"""


@pytest.fixture
def shop() -> Made:
    found = made.mesh(made.SHOP + CLIENTS)
    found.proxies = [
        made.status(made.proxy("api-1.shop", "10.244.0.2", account="api")),
        made.status(made.proxy("vm-1.shop", "10.244.0.9")),
        made.status(made.proxy("edge-1.shop", "10.244.0.4", "router", LABELS={"istio": "edge"})),
    ]
    return found


def ask(shop: Made, **said: str) -> Told:
    context = shop.pipeline.context
    assert context is not None
    mesh = Connected(shop.sources(), context)
    fields = {"from": "web-1.shop", "host": "api", **said}
    return journeys.told(journey.travel(mesh, journeys.asked(fields, MOMENT)), mesh.cause)


def test_a_split_names_its_rule_and_every_proxy_on_the_way(shop: Made) -> None:
    told = ask(shop)
    assert [(one.share, one.text, one.tone) for one in told.outcomes] == [
        ("75%", "reaches the app of api-1.shop at port 8000", "good"),
        ("25%", "reaches the app of api-2.shop at port 8000, which has no sidecar", "good"),
    ]
    assert [(stop.proxy, stop.direction, stop.share) for stop in told.stops] == [
        ("web-1.shop", "outbound", "100%"),
        ("api-1.shop", "inbound", "75%"),
    ]
    route = next(line for line in told.stops[0].lines if line.stage == "route")
    assert route.cause == "VirtualService/shop/api spec.http[3] (api.yaml:7)"
    assert len(route.lost) == 3
    assert route.lost[0][0] == "VirtualService/shop/api spec.http[0] (api.yaml:7)"
    assert told.stops[1].lines[-1].text == "the app beside it"


@pytest.mark.parametrize(
    ("said", "text", "tone"),
    [
        ({"path": "/old"}, "answered 301 by web-1.shop", "good"),
        ({"path": "/secret1"}, "answered 403 by web-1.shop", "error"),
        ({"path": "/no"}, "answered 403 by api-1.shop", "error"),
        ({"path": "/in?q=1", "headers": "End-User: jason\n\n"}, "reaches the app of api-2.shop", "good"),
        ({"scheme": "grpc"}, "reaches the app of api-1.shop", "good"),
        ({"scheme": "tcp", "port": "9000"}, "connection closed by api-1.shop: refused", "error"),
        ({"scheme": "https", "claims": '{"iss": "x"}'}, "connection closed by web-1.shop: no healthy", "error"),
        ({"host": "nowhere.example"}, "leaves the mesh", "warning"),
        ({"host": "[fd00::1]", "port": "80"}, "leaves the mesh", "warning"),
        ({"host": "db"}, "reaches the app of api-2.shop", "good"),
        ({"host": "a.wild.example"}, "leaves the mesh", "warning"),
        ({"host": "vm.shop"}, "reaches the app of vm-1.shop", "good"),
        ({"from": "vm-1.shop"}, "reaches the app of api-1.shop", "good"),
        ({"from": "vm.shop"}, "reaches the app of api-1.shop", "good"),
        ({"from": "plain-1.shop"}, "reaches the app of api-1.shop", "good"),
        ({"from": "deploy/web.shop"}, "reaches the app of api-1.shop", "good"),
        ({"from": "edge-1.shop", "host": "api.example"}, "reaches the app of api-1.shop", "good"),
        ({"from": "edge-1.shop", "host": "other.example"}, "answered 404 by edge-1.shop", "error"),
    ],
)
def test_what_becomes_of_a_request(shop: Made, said: Mapping[str, str], text: str, tone: str) -> None:
    found = ask(shop, **said).outcomes[0]
    assert text in found.text
    assert found.tone == tone


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"scheme": "ftp"}, "scheme 'ftp' is none of"),
        ({"from": ""}, "say who calls"),
        ({"host": ""}, "say who calls"),
        ({"from": "nobody.shop"}, "no workload 'nobody.shop'"),
        ({"from": "gone-1.shop"}, "no workload 'gone-1.shop'"),
        ({"port": "0"}, "'0' is no port"),
        ({"port": "70000"}, "'70000' is no port"),
        ({"port": "x"}, "'x' is no port"),
        ({"scheme": "tcp"}, "TCP needs a port"),
        ({"path": "x"}, "does not begin with /"),
        ({"headers": "nothing"}, "'nothing' is no header"),
        ({"claims": "["}, "claims: "),
        ({"claims": "[]"}, "no JSON object"),
        ({"headers": "a: b\n" * 10_000}, "headers has more than 8192 characters"),
    ],
)
def test_a_field_that_means_nothing_is_said(shop: Made, said: Mapping[str, str], problem: str) -> None:
    with pytest.raises(QuestionError, match=problem.replace("[", r"\[")):
        ask(shop, **said)


def test_many_that_do_the_same_stand_together_and_many_losers_are_counted() -> None:
    rules = "".join(f"    - match: [{{uri: {{exact: /{n}}}}}]\n      redirect: {{uri: /}}\n" for n in range(9))
    more = made.SHOP.replace(
        "    - match: [{uri: {exact: /old}}]\n", rules + "    - match: [{uri: {exact: /old}}]\n", 1
    )
    found = made.mesh((more + CLIENTS).replace("labels: {app: api, version: v2}", "labels: {app: api, version: v1}"))
    found.proxies = [
        made.status(made.proxy("api-1.shop", "10.244.0.2", account="api")),
        made.status(made.proxy("api-2.shop", "10.244.0.3")),
    ]
    told = ask(found, path="/in")
    route = next(line for line in told.stops[0].lines if line.stage == "route")
    assert (route.more, len(route.lost)) == (11, 1)
    inbound = [stop for stop in told.stops if stop.direction == "inbound"]
    assert sum(1 + len(stop.alike) for stop in inbound) == 2


def test_the_form_offers_workloads_and_proxies_that_are_no_pods(shop: Made) -> None:
    context = shop.pipeline.context
    assert context is not None
    names = Connected(shop.sources(), context).names()
    assert names == ("api-1.shop", "api-2.shop", "edge-1.shop", "plain-1.shop", "vm-1.shop", "web-1.shop")


async def test_the_page_answers_a_form_and_keeps_what_was_typed(shop: Made) -> None:
    app = web.Application()
    app.add_routes(MeshPage(shop.sources()).routes())
    async with TestClient(TestServer(app)) as client:
        empty = await (await client.get("/debug/page/explain")).text()
        assert '<option value="web-1.shop">' in empty
        assert "Fill in a request" in empty
        query = {"from": "web-1.shop", "host": "api", "path": "/old", "headers": "x: <script>\n", "port": ""}
        answer = await (await client.get("/debug/page/explain", params=query)).text()
        assert "answered 301 by web-1.shop" in answer
        assert "x: &lt;script&gt;" in answer
        assert 'value="/old"' in answer
        assert "VirtualService/shop/api spec.http[0]" in answer
        wrong = await client.get("/debug/page/explain", params={"from": "<b>", "host": "api"})
        assert "there is no workload &#39;&lt;b&gt;&#39;" in await wrong.text()
    app = web.Application()
    app.add_routes(MeshPage(made.mesh(built=False).sources()).routes())
    async with TestClient(TestServer(app)) as client:
        assert "has not read" in await (await client.get("/debug/page/explain", params=query)).text()

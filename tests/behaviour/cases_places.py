"""Where endpoints are: localities that retries turn to, what a Service prefers, and endpoints that are new."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import ENTRY, HOST, OUTLIER, OUTLIERS, PLACES, policy
from tests.behaviour.cases_mesh import mesh
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Answer

CASES = Cases()
FAR = "attempts: 4, retryOn: '418', backoff: 1ms, retryRemoteLocalities: true"
RETRIED = r".*(attempts|retryOn|backoff)"


async def _goes_on(rig: Rig) -> None:
    """Two tries are for the nearest endpoint, those after them for the next locality."""
    rig.servers.answer = lambda seen: Answer(status=418 if seen.name == "web-1" else 200, body=seen.name)
    assert (await rig.ask(host="spread.example")).body == "web-2"
    assert [one.name for one in rig.servers.seen] == ["web-1", "web-1", "web-2"]


@CASES(
    policy(
        OUTLIER,
        "spread.example",
        f"""{PLACES}
---
kind: VirtualService
spec: {{hosts: [spread.example], http: [{{retries: {{{FAR}}}, route: [{{destination: {{host: spread.example}}}}]}}]}}
""",
    ),
    ENTRY,
    HOST,
    OUTLIERS,
    RETRIED,
    r"VirtualService spec\.(hosts|http\[\]\.route.*)",
)
async def retries_turn_to_other_localities(rig: Rig) -> None:
    await _goes_on(rig)


@CASES(
    mesh(f"defaultHttpRetryPolicy: {{{FAR}}}", f"---\n{policy(OUTLIER, 'spread.example', PLACES)}"),
    ENTRY,
    HOST,
    OUTLIERS,
    RETRIED,
)
async def retries_of_the_mesh_turn_to_other_localities(rig: Rig) -> None:
    await _goes_on(rig)


CLOSE = """
kind: Service
metadata: {name: close, annotations: {networking.istio.io/traffic-distribution: %s}}
spec: {clusterIP: 10.0.0.20, selector: {app: web}, ports: [{name: http, port: $http, targetPort: $app}]}
"""
PODS = """
---
kind: EndpointSlice
metadata: {name: close-1, labels: {kubernetes.io/service-name: close}}
addressType: IPv4
ports: [{name: http, port: $app}]
endpoints:
- {addresses: [$ip1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1, namespace: default}}
- {addresses: [$ip2], conditions: {ready: true}, targetRef: {kind: Pod, name: web-2, namespace: default}}
- {addresses: [$ip3], conditions: {ready: true}, targetRef: {kind: Pod, name: web-3, namespace: default}}
"""
POD = """
---
kind: Pod
metadata: {name: web-%s, labels: {app: web, security.istio.io/tlsMode: disabled, istio-locality: %s}}
spec: {serviceAccountName: web, nodeName: %s, containers: []}
status: {podIP: $ip%s, podIPs: [{ip: $ip%s}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
"""


def _pods(*places: tuple[str, str]) -> str:
    """Web's pods, each in a locality and on a node."""
    return PODS + "".join(POD % (n, where, node, n, n) for n, (where, node) in enumerate(places, 1))


async def _prefers(rig: Rig, *names: str) -> None:
    """Only these are asked; where nothing is preferred, all three are. No field of a spec says so, but a name does."""
    assert set(await rig.names(24, host="close")) == set(names)
    await rig.add(rig.read(CLOSE % "Any"))
    assert len(set(await rig.names(40, host="close"))) == 3


@CASES(CLOSE % "PreferClose" + _pods(("r1.z1.s1", "a"), ("r1.z1.s9", "b"), ("r1.z2.s1", "c")))
async def a_service_prefers_pods_of_the_clients_zone(rig: Rig) -> None:
    """Of any subzone."""
    await _prefers(rig, "web-1", "web-2")


@CASES(CLOSE % "PreferSameNode" + _pods(("r1.z1.s1", "a"), ("r1.z1.s1", "node-1"), ("r1.z1.s1", "c")))
async def a_service_prefers_pods_of_the_clients_node(rig: Rig) -> None:
    await _prefers(rig, "web-2")


NEW = """
kind: EndpointSlice
metadata: {name: web-new, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: $app}]
endpoints:
- {addresses: [$ip4], conditions: {ready: true}, targetRef: {kind: Pod, name: web-4, namespace: default}}
---
kind: Pod
metadata: {name: web-4, labels: {app: web, version: v2, security.istio.io/tlsMode: disabled}}
spec: {serviceAccountName: web, nodeName: node-1, containers: []}
status: {podIP: $ip4, podIPs: [{ip: $ip4}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
"""
"""A pod of web at the address of shop's server. Its account is web's: another would make another cluster."""


async def _with_a_new_endpoint(rig: Rig, count: int = 40) -> list[str]:
    """Who answers right after shop's server has become an endpoint of web."""
    await rig.names(6)
    await rig.add(rig.read(NEW))
    return await rig.names(count)


@CASES(policy("loadBalancer: {warmup: {duration: 60s, minimumPercent: 0, aggression: 0.2}}"), HOST, r".*aggression")
async def a_new_endpoint_warms_up(rig: Rig) -> None:
    """Its share grows with its age, here by the fifth power, without a minimum: in its first moments it has none.

    It is asked once where a worker of Envoy hears of it before it has an age.
    """
    assert (await _with_a_new_endpoint(rig)).count("shop-1") <= 1


@CASES(
    policy("loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 0, aggression: 1000}}"),
    HOST,
    r".*(simple|duration|minimumPercent)",
)
async def a_new_endpoint_warms_up_at_once(rig: Rig) -> None:
    """As aggressive as this it has its share from the beginning."""
    assert (await _with_a_new_endpoint(rig)).count("shop-1") >= 7

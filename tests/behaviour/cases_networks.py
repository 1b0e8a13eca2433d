"""Networks: endpoints of another network are reached by its gateway, those of the proxy's own by themselves."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig

CASES = Cases()
OWN = """
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: n1}}
---
"""
NAMED = """
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  meshNetworks: |
    networks:
      n2: {endpoints: [], gateways: [{address: $ip11, port: $gwtls}]}
---
"""
BY_NAME = NAMED.replace("$ip11", "gw.far.example")
BALANCED = """
kind: Service
metadata: {name: east-west, labels: {topology.istio.io/network: n2, networking.istio.io/gatewayPort: '$gwtls'}}
spec: {type: LoadBalancer, clusterIP: 10.0.0.40, ports: [{name: tls, port: $gwtls}]}
status: {loadBalancer: {ingress: [{hostname: gw.far.example}]}}
---
"""
LABELLED = """
kind: Service
metadata: {name: east-west, labels: {topology.istio.io/network: n2, networking.istio.io/gatewayPort: '$gwtls'}}
spec: {type: LoadBalancer, clusterIP: 10.0.0.40, ports: [{name: tls, port: $gwtls}]}
status: {loadBalancer: {ingress: [{ip: $ip11}]}}
---
"""
BESIDE = """
kind: Gateway
spec:
  selector: {app: gw}
  servers:
  - {port: {number: $gwtls, name: tls, protocol: TLS}, hosts: ['*.example'], tls: {mode: AUTO_PASSTHROUGH}}
---
kind: Pod
metadata: {name: gw-1, labels: {app: gw, role: gw, topology.istio.io/network: n2}}
spec: {serviceAccountName: gw, containers: []}
status: {podIP: $ip11, podIPs: [{ip: $ip11}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
"""
REMOTE = """
kind: ServiceEntry
spec:
  hosts: [%s.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $meshapp}]
  endpoints:
  - {address: $ip6, network: n2, serviceAccount: mesh, labels: {security.istio.io/tlsMode: %s}}
"""
OTHERS = r"(Gateway|ServiceEntry spec\.(hosts|location|resolution|ports|endpoints\[\]\.(address|labels|service))).*"


async def _through(rig: Rig, name: str) -> int:
    """How many connections to a host the gateway passed on."""
    return await rig.stat(rf"cluster\.outbound_\..*{name}\.example.*upstream_cx_total", "gw")


async def _crossed(rig: Rig, name: str) -> None:
    """Each case has a host of its own: connections outlive changes that do not concern them."""
    back = await rig.ask(host=f"{name}.example")
    assert (back.status, back.body) == (200, "mesh-1")
    seen = rig.servers.seen[-1].tls
    assert seen is not None
    assert seen.sni == f"outbound_.{rig.ports['http']}_._.{name}.example"
    assert await _through(rig, name) == 1


@CASES(OWN + NAMED + BESIDE + REMOTE % ("named", "istio"), OTHERS)
async def another_network_by_the_gateway_that_mesh_networks_name(rig: Rig) -> None:
    await _crossed(rig, "named")


@CASES(OWN + LABELLED + BESIDE + REMOTE % ("labelled", "istio"), OTHERS)
async def another_network_by_a_labelled_service(rig: Rig) -> None:
    await _crossed(rig, "labelled")


async def _looked_up(rig: Rig) -> tuple[str, ...]:
    """The name server knows the gateway's name."""
    return await rig.names_of_gateways({"gw.far.example": (rig.filled("$ip11"),)})


@CASES(OWN + BY_NAME + BESIDE + REMOTE % ("resolved", "istio"), OTHERS, r".*network")
async def another_network_by_the_name_of_a_gateway(rig: Rig) -> None:
    assert await _looked_up(rig) == ("gw.far.example",)
    await _crossed(rig, "resolved")


@CASES(OWN + BALANCED + BESIDE + REMOTE % ("balanced", "istio"), OTHERS, r".*network")
async def another_network_by_the_name_of_a_load_balancer(rig: Rig) -> None:
    assert await _looked_up(rig) == ("gw.far.example",)
    await _crossed(rig, "balanced")


@CASES(OWN + NAMED + BESIDE + REMOTE % ("plain", "disabled"), OTHERS, r".*network")
async def plaintext_does_not_cross(rig: Rig) -> None:
    assert (await rig.ask(host="plain.example")).status == 503
    assert rig.servers.seen == []


@CASES(OWN.replace("n1", "n2") + NAMED + BESIDE + REMOTE % ("near", "istio"), OTHERS, r".*network")
async def the_own_network_needs_no_gateway(rig: Rig) -> None:
    assert (await rig.ask(host="near.example")).body == "mesh-1"
    assert await _through(rig, "near") == 0


BEHIND = """
kind: ServiceEntry
spec:
  hosts: [remote.example]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {labels: {app: behind}}
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $meshapp}]
---
kind: WorkloadEntry
metadata: {labels: {app: behind}}
spec: {network: n2, serviceAccount: mesh}
"""


@CASES(OWN + NAMED + BEHIND, r"ServiceEntry.*")
async def a_workload_without_an_address_is_behind_its_gateway(rig: Rig) -> None:
    clusters = await rig.envoys["client"].admin("/clusters")
    name = f"outbound|{rig.ports['http']}||remote.example"
    gateway = rig.filled("$ip11:$gwtls")
    assert any(line.startswith(f"{name}::{gateway}::") for line in clusters.splitlines())

"""Sidecar: what apps may reach and where, and how requests come in; PeerAuthentication: who may come in."""

from __future__ import annotations

import contextlib
import ssl

from tests.behaviour import world
from tests.behaviour.case import Cases
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig, address

CASES = Cases()
CLIENT = "workloadSelector: {labels: {app: client}}"
OWN = r"Sidecar spec\.workloadSelector.*"


def sidecar(text: str, more: str = "") -> str:
    """The client's own Sidecar."""
    return f"kind: Sidecar\nspec:\n  {CLIENT}\n  {text}\n{more}"


@CASES(sidecar('egress: [{hosts: ["./shop.default.svc.cluster.local"]}]'), OWN)
async def only_what_is_imported_is_known(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).body == "shop-1"
    assert (await rig.ask(host="web")).status != 200
    assert (await rig.line("tcp")) == ""


@CASES(
    sidecar(
        "egress: [{port: {number: $http, protocol: HTTP, name: http}, bind: 127.8.0.1,"
        " hosts: ['./shop.default.svc.cluster.local']}]"
    ),
    OWN,
    r".*(protocol|port\.name|number)",
)
async def a_listener_of_ones_own(rig: Rig) -> None:
    assert (await rig.ask(address="127.8.0.1", host="shop")).body == "shop-1"
    assert (await rig.ask(host="shop")).status == 0


@CASES(
    sidecar('egress: [{hosts: ["./*"]}]\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}'),
    OWN,
    r".*hosts",
)
async def hosts_that_nobody_knows_are_refused(rig: Rig) -> None:
    assert (await rig.ask(host="unknown.example")).status == 502


@CASES(
    sidecar(
        'egress: [{hosts: ["./*"]}]\n'
        "  outboundTrafficPolicy: {mode: ALLOW_ANY,"
        " egressProxy: {host: web.default.svc.cluster.local, subset: v1, port: {number: $http3}}}",
        """
---
kind: DestinationRule
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
""",
    ),
    OWN,
    r".*(hosts|mode)",
    r"DestinationRule.*",
)
async def hosts_that_nobody_knows_go_by_a_proxy(rig: Rig) -> None:
    assert (await rig.ask(host="unknown.example")).body == "web-1"
    assert rig.servers.seen[-1].port == 18_081


SERVER = """
kind: Sidecar
metadata: {name: server}
spec:
  workloadSelector: {labels: {app: server}}
  ingress:
  - {port: {number: $in, protocol: HTTP, name: http}, %s, defaultEndpoint: "127.0.0.1:$local"%s}
  egress: [{hosts: ["~/*"]}]
"""
THE_SERVER = (r".*(workloadSelector|egress).*",)
PORT = r".*port\.(number|protocol|name)"


def server(bind: str = "bind: 127.0.0.1", more: str = "") -> str:
    """The other sidecar's Sidecar, with this in its only ingress listener."""
    return SERVER % (bind, more)


@CASES(server(), *THE_SERVER, r".*(protocol|port\.name)")
async def requests_come_in_by_a_port(rig: Rig) -> None:
    assert (await rig.ask(port="in")).body == "local"
    assert (await rig.ask(port="in", address="127.6.6.6")).status == 0


@CASES(server().replace("127.0.0.1:$local", "unix://$certs/app.sock"), *THE_SERVER, PORT, r".*bind")
async def the_app_listens_at_a_socket(rig: Rig) -> None:
    app = await rig.servers.unix("socket", rig.path("app.sock"))
    try:
        assert (await rig.ask(port="in")).body == "socket"
    finally:
        app.close()


@CASES(server().replace("127.0.0.1:$local", "0.0.0.0:$app"), *THE_SERVER, PORT, r".*bind")
async def the_app_listens_at_the_pods_address(rig: Rig) -> None:
    app = await rig.servers.http("pod", address(world.ADDRESSES["server"]), world.APP)
    try:
        assert (await rig.ask(port="in")).body == "pod"
    finally:
        app.close()


@CASES(server("bind: 127.0.0.1, captureMode: IPTABLES"), *THE_SERVER, PORT, r".*(bind|defaultEndpoint)")
async def what_is_captured_binds_nothing(rig: Rig) -> None:
    assert (await rig.ask(port="in")).status == 0


@CASES(
    server(more=", connectionPool: {http: {maxRequestsPerConnection: 1}}"),
    *THE_SERVER,
    PORT,
    r".*(bind|defaultEndpoint)",
)
async def connections_to_the_app_serve_so_many(rig: Rig) -> None:
    for _ in range(3):
        await rig.ask(port="in")
    assert len({one.connection for one in rig.servers.seen}) == 3


STRICT = """
---
kind: PeerAuthentication
spec: {selector: {matchLabels: {app: server}}, mtls: {mode: %s}%s}
"""


async def mutual(rig: Rig, path: str = "/") -> Reply:
    """As a sidecar asks, with the client's certificate."""
    chain, key = rig.mesh.of("cluster.local/ns/default/sa/client")
    context = trusting(str(rig.mesh.root), str(chain), str(key))
    with contextlib.suppress(NotImplementedError):
        context.set_alpn_protocols(["istio-http/1.1", "istio"])
    assert isinstance(context, ssl.SSLContext)
    return await rig.ask(path, port="in", tls=context, host="server")


BASE = server()
SIDE = r"Sidecar.*"


@CASES(BASE + STRICT % ("STRICT", ""), SIDE, r".*matchLabels")
async def plaintext_is_refused(rig: Rig) -> None:
    assert (await rig.ask(port="in")).status == 0
    assert (await mutual(rig)).body == "local"
    assert (
        rig.servers.seen[-1]
        .headers["x-forwarded-client-cert"]
        .endswith("URI=spiffe://cluster.local/ns/default/sa/client")
    )


@CASES(
    BASE + STRICT % ("STRICT", ", portLevelMtls: {$in: {mode: PERMISSIVE}}"), SIDE, r".*(matchLabels|spec\.mtls\.mode)"
)
async def plaintext_is_accepted_on_one_port(rig: Rig) -> None:
    assert (await rig.ask(port="in")).body == "local"
    assert (await mutual(rig)).body == "local"


@CASES(
    BASE
    + """
---
kind: PeerAuthentication
spec: {selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}
""",
    SIDE,
    r".*mode",
)
async def a_policy_for_others_does_nothing(rig: Rig) -> None:
    assert (await rig.ask(port="in")).body == "local"


@CASES(
    """
kind: Sidecar
spec:
  workloadSelector: {labels: {app: other}}
  egress: [{hosts: ["./shop.default.svc.cluster.local"]}]
""",
    r".*egress.*",
)
async def a_sidecar_of_others_does_nothing(rig: Rig) -> None:
    assert (await rig.ask()).status == 200

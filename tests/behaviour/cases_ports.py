"""Which port is for what: HTTP proxies for apps, and the ports that what is captured comes to."""

from __future__ import annotations

import asyncio
import contextlib

from tests.behaviour.case import Cases
from tests.behaviour.cases_mesh import mesh
from tests.behaviour.cases_sidecar import OWN, sidecar
from tests.behaviour.rig import Rig
from tests.waiting import until

CASES = Cases()


EVERYTHING = """
---
kind: Sidecar
metadata: {name: server}
spec: {workloadSelector: {labels: {app: server}}, egress: [{hosts: ["*/*"]}]}
"""

EIGHTY = """
---
kind: ServiceEntry
metadata: {name: eighty}
spec:
  hosts: [eighty.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: $ip1}]
"""


@CASES(mesh("proxyHttpPort: $proxy", EVERYTHING), r"Sidecar.*")
async def apps_have_an_http_proxy(rig: Rig) -> None:
    """Every HTTP service is behind it, whichever port it has. Both sidecars share the port: each may be asked."""
    for host, name in (("shop.default", "shop-1"), ("far.other", "far-1")):
        said = f"http://{host}:{rig.ports['http']}/"
        assert (await rig.ask(said, port="proxy", host=host)).body == name


@CASES(
    sidecar(
        "egress: [{port: {number: $proxy, protocol: HTTP_PROXY, name: proxy}, bind: 127.8.0.2, hosts: ['./*']}]", EIGHTY
    ),
    OWN + "|ServiceEntry.*",
    r".*(hosts|port\.name|number|bind)",
)
async def a_listener_for_apps_with_a_proxy(rig: Rig) -> None:
    """No service has this port; by any other protocol nothing would be behind it."""
    said = "http://eighty.example/"
    assert (await rig.ask(said, port="proxy", address="127.8.0.2", host="eighty.example")).body == "web-1"


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


@CASES(mesh("proxyListenPort: $caught, proxyInboundListenPort: $entered"))
async def captured_traffic_comes_to_these_ports(rig: Rig) -> None:
    """What was not captured and comes there all the same would lead to itself: it is refused."""
    async with rig.capturing("client"):
        for name in ("caught", "entered"):
            await until(lambda name=name: _listens(rig.ports[name]), f"somebody listens at {name}", 5)

"""MeshConfig: what holds for the whole mesh."""

from __future__ import annotations

import time
from collections import Counter

from tests.behaviour.case import Cases
from tests.behaviour.cases_balancing import PLACES
from tests.behaviour.rig import Rig
from tests.behaviour.servers import saying

CASES = Cases()


def mesh(text: str, more: str = "") -> str:
    """Settings of the mesh."""
    return f"kind: MeshConfig\nspec: {{{text}}}\n{more}"


@CASES(mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"))
async def unknown_hosts_are_refused(rig: Rig) -> None:
    assert (await rig.ask(host="unknown.example")).status == 502


@CASES(mesh("enableAutoMtls: false"))
async def no_tls_of_its_own(rig: Rig) -> None:
    await rig.ask(port="mtls", host="mesh")
    assert rig.servers.seen == []


@CASES(mesh("defaultHttpRetryPolicy: {attempts: 3, retryOn: '418', backoff: 1ms}"), r".*backoff")
async def retries_of_the_mesh(rig: Rig) -> None:
    rig.servers.answer = saying(status=418)
    await rig.ask(host="shop")
    assert len(rig.servers.seen) == 4


@CASES(mesh("h2UpgradePolicy: UPGRADE"))
async def http2_everywhere(rig: Rig) -> None:
    await rig.ask(host="shop")
    assert rig.servers.seen[-1].protocol == "2"


@CASES(mesh("pathNormalization: {normalization: MERGE_SLASHES}"))
async def slashes_are_merged(rig: Rig) -> None:
    await rig.ask("/a//b", host="shop")
    assert rig.servers.seen[-1].path == "/a/b"


@CASES(
    mesh(
        "connectTimeout: 0.3s",
        """
---
kind: ServiceEntry
spec:
  hosts: [nowhere.example]
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP, targetPort: $app}]
  endpoints: [{address: $ip8}]
---
kind: VirtualService
spec: {hosts: [nowhere.example], http: [{retries: {attempts: 0}, route: [{destination: {host: nowhere.example}}]}]}
""",
    ),
    r"(ServiceEntry|VirtualService).*",
)
async def connecting_takes_so_long(rig: Rig) -> None:
    back = await rig.ask(host="nowhere.example")
    assert back.status == 503
    assert back.seconds < 2.5


@CASES(
    mesh(
        "rootNamespace: other",
        """
---
kind: DestinationRule
metadata: {namespace: other}
spec: {host: web.default.svc.cluster.local, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
""",
    ),
    r"DestinationRule.*",
)
async def rules_of_the_root_namespace_are_for_all(rig: Rig) -> None:
    assert len(set(await rig.names(12, headers={"x-user": "1"}))) == 1


@CASES(mesh("defaultServiceExportTo: ['.']"))
async def services_are_for_their_own_namespace(rig: Rig) -> None:
    assert (await rig.ask(host="far.other.svc.cluster.local")).body != "far-1"
    assert (await rig.ask(host="shop")).body == "shop-1"


@CASES(
    mesh(
        "defaultVirtualServiceExportTo: ['.']",
        """
---
kind: VirtualService
metadata: {namespace: other}
spec: {hosts: [web.default.svc.cluster.local], http: [{directResponse: {status: 418}}]}
""",
    ),
    r"VirtualService.*",
)
async def rules_are_for_their_own_namespace(rig: Rig) -> None:
    assert (await rig.ask()).status == 200


@CASES(
    mesh(
        "defaultDestinationRuleExportTo: ['.']",
        """
---
kind: DestinationRule
metadata: {namespace: istio-system}
spec: {host: web.default.svc.cluster.local, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
""",
    ),
    r"DestinationRule.*",
)
async def policies_are_for_their_own_namespace(rig: Rig) -> None:
    assert len(set(await rig.names(12, headers={"x-user": "1"}))) == 3


@CASES(mesh("accessLogFile: $certs/access.log, accessLogFormat: '%RESPONSE_CODE% mine %REQ(:PATH)%'"))
async def requests_are_logged_so(rig: Rig) -> None:
    path = f"/{time.monotonic_ns()}"
    await rig.ask(path, host="shop")
    await rig.logged("access.log", f"200 mine {path}")


@CASES(mesh("accessLogFile: $certs/json.log, accessLogEncoding: JSON"), r".*accessLogFile")
async def requests_are_logged_as_json(rig: Rig) -> None:
    path = f"/{time.monotonic_ns()}"
    await rig.ask(path, host="shop")
    await rig.logged("json.log", f'"path":"{path}"')


SPREAD = "spread.example"
ENTRY = r"ServiceEntry.*"
OUTLIERS = """
---
kind: DestinationRule
spec: {host: spread.example, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}
"""


@CASES(mesh("localityLbSetting: {distribute: [{from: r1/*, to: {r1/z2/*: 30, r2/*: 70}}]}", PLACES), ENTRY)
async def distribution_of_the_mesh(rig: Rig) -> None:
    found = Counter(await rig.names(200, host=SPREAD))
    assert set(found) == {"web-2", "web-3"}
    assert 30 <= found["web-2"] <= 95


@CASES(mesh("localityLbSetting: {enabled: false}", PLACES + OUTLIERS), ENTRY, r"DestinationRule.*")
async def locality_counts_for_nothing_in_the_mesh(rig: Rig) -> None:
    assert len(set(await rig.names(40, host=SPREAD))) == 4


@CASES(mesh("localityLbSetting: {failoverPriority: [app]}", PLACES + OUTLIERS), ENTRY, r"DestinationRule.*")
async def labels_that_are_shared_in_the_mesh(rig: Rig) -> None:
    assert set(await rig.names(20, host=SPREAD)) == {"web-2"}


@CASES(
    mesh("defaultHttpRetryPolicy: {attempts: 2, perTryTimeout: 0.2s, retryOn: gateway-error}"), r".*(attempts|retryOn)"
)
async def tries_of_the_mesh_have_their_own_time(rig: Rig) -> None:
    rig.servers.answer = saying(delay=1.5)
    back = await rig.ask(host="shop")
    assert back.status == 504
    assert back.seconds < 1.4


@CASES(mesh("defaultInboundHttpRetryPolicy: {attempts: 3, retryOn: '418', backoff: 1ms}"), r".*backoff")
async def retries_where_requests_come_in(rig: Rig) -> None:
    rig.servers.answer = saying(status=418)
    await rig.ask(port="in")
    assert len(rig.servers.seen) == 4


@CASES(mesh("enableTracing: false, defaultConfig: {tracing: {sampling: 100}}"), r".*defaultConfig.*")
async def nothing_is_sampled(rig: Rig) -> None:
    await rig.ask(host="shop")
    assert rig.servers.seen[-1].headers["x-request-id"][14] == "4"

"""What a user of Istio does to see what goes on, on the local mesh: istioctl asks istiod's pages and Envoys' dumps."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.demo.mesh import FILES, BookInfo
from istioctl import __main__ as program
from tests.story import worlds

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]


@pytest.fixture
async def mesh() -> AsyncIterator[BookInfo]:
    async with worlds.world(FILES) as found:
        yield found


async def istioctl(*arguments: str) -> str:
    """What the program prints; asserts that it succeeds. In this process: a start costs more than all that it does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = await asyncio.to_thread(program.main, arguments)
    assert code == 0, err.getvalue()
    return out.getvalue()


async def page(mesh: BookInfo, pod: str, path: str, folder: Path) -> str:
    """A page of the pod's Envoy, saved as a user saves it; gives the file's name."""
    code, out, err = await mesh.mesh.exec(pod, ("pilot-agent", "request", "GET", path), "istio-proxy")
    assert code == 0, err
    file = folder / f"{path.partition('?')[0]}.json"
    file.write_text(out)
    return str(file)


async def test_a_user_looks_from_the_mesh_down_to_one_route(mesh: BookInfo, tmp_path: Path) -> None:
    istiod = ("--monitoring-address", mesh.debug.removeprefix("http://"))

    status = await istioctl("proxy-status", *istiod)
    header, *lines = status.splitlines()
    assert header.split() == ["NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ISTIOD", "VERSION"]
    assert all(line.split()[2:6] == ["SYNCED"] * 4 for line in lines), status
    names = [line.split()[0] for line in lines]
    assert len(names) == 7
    pod = next(name for name in names if name.startswith("productpage")).removesuffix(".default")

    assert f"({len(names)} proxies)" in await istioctl("version", *istiod)

    dump = await page(mesh, pod, "config_dump?include_eds", tmp_path)
    compared = await istioctl("proxy-status", "-f", dump, *istiod)
    assert [line.split()[:2] for line in compared.splitlines()] == [
        [kind, "Match"] for kind in ("Clusters", "Listeners", "Routes", "Endpoints")
    ]

    reviews = "reviews.default.svc.cluster.local"
    clusters = json.loads(await istioctl("pc", "cluster", "-f", dump, "--fqdn", reviews, "-o", "json"))
    assert [each["name"] for each in clusters] == [
        f"outbound|9080|{subset}|{reviews}" for subset in ("", "v1", "v2", "v3")
    ]
    route = await istioctl("pc", "route", "-f", dump, "--name", "9080")
    assert any(line.split()[1:2] == [f"{reviews}:9080"] and "reviews.default" in line for line in route.splitlines())
    listener = await istioctl("pc", "listener", "-f", dump, "--port", "9080")
    assert "Route: 9080" in listener
    certificates = await istioctl("pc", "secret", "-f", dump)
    assert [line.split()[0] for line in certificates.splitlines()[1:]] == ["default", "ROOTCA"]
    eds = await istioctl("pc", "eds", "-f", dump, "--cluster", f"outbound|9080|v2|{reviews}")
    assert len(eds.splitlines()) == 2

    clusters_page = await page(mesh, pod, "clusters?format=json", tmp_path)
    found = await istioctl("pc", "endpoint", "-f", clusters_page, "--address", eds.splitlines()[1].split(":")[0])
    assert f"outbound|9080|v2|{reviews}" in found


GUARD = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers}
spec:
  selector: {matchLabels: {app: reviews}}
  rules: [{from: [{source: {namespaces: [default]}}]}]
"""


SAID = """\
Pod: POD
   Pod Revision: default
   Pod Ports: 9080 (reviews), 15090 (istio-proxy)
--------------------
Service: reviews
   Port: http 9080/HTTP targets pod port 9080
DestinationRule: reviews for "reviews"
   Matching subsets: v1
      (Non-matching subsets v2,v3)
   No Traffic Policy
VirtualService: reviews
   1 HTTP route(s)
RBAC policies: ns[default]-policy[callers]-rule[0]
--------------------
Effective PeerAuthentication:
   Workload mTLS mode: STRICT
Applied PeerAuthentication:
   default.istio-system
Deciding PeerAuthentication:
   default.istio-system
Certificates:
   default (Cert Chain): spiffe://cluster.local/ns/default/sa/bookinfo-reviews, valid until
   ROOTCA (CA): valid until
"""


async def test_a_user_is_told_what_holds_for_a_pod_and_a_service(mesh: BookInfo, tmp_path: Path) -> None:
    await mesh.converge(GUARD)
    pods = [str(each["metadata"]["name"]) for each in mesh.mesh.pods()]
    pod = next(each for each in pods if each.startswith("reviews-v1"))
    where = ("-f", await page(mesh, pod, "config_dump", tmp_path))
    istiod = ("--monitoring-address", mesh.debug.removeprefix("http://"))

    said = await istioctl("x", "describe", "pod", pod, *where, *istiod)
    lines = (line.partition("valid until")[0] + "valid until" * ("valid until" in line) for line in said.splitlines())
    assert "\n".join((*lines, "")) == SAID.replace("POD", pod)

    pod = next(each for each in pods if each.startswith("productpage"))
    where = ("-f", await page(mesh, pod, "config_dump", tmp_path))
    *_, exposed, rule, matches = (
        await istioctl("x", "describe", "service", "productpage", *where, *istiod)
    ).splitlines()
    assert exposed.startswith("Exposed on Ingress Gateway http://10.")
    assert rule == "VirtualService: bookinfo"
    assert matches.strip().startswith("Match: /, Match: /productpage, Match: /static*")

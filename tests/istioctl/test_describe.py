"""``x describe`` without a cluster, and what it reads out of a real API server."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from crds import core
from crds.destination_rule import DestinationRule
from crds.gateway import Gateway
from e2e.harness import process
from e2e.harness.controlplane import Cluster as ApiServer
from istioctl import __main__ as program
from istioctl import cluster, objects
from istioctl.errors import CommandError
from istioctl.views import authorizations, identities, secrets
from istiod.ca.authority import Authority, self_signed

Json = dict[str, Any]
DEFINITION = Path(core.__file__).with_name("networking.istio.io_destinationrules.yaml")
HTTP = "envoy.filters.network.http_connection_manager"


def thing(version: str, kind: str, name: str, spec: Json, **metadata: object) -> Json:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": spec,
    }


NETWORKING, SECURITY = "networking.istio.io/v1", "security.istio.io/v1"
CONTAINERS = [
    {
        "name": "app",
        "image": "app",
        "ports": [{"name": "web", "containerPort": 9080}, {"containerPort": 53, "protocol": "UDP"}],
    },
    {"name": "istio-proxy", "image": "proxy"},
]
READY = [{"name": "app", "ready": True}, {"name": "istio-proxy", "ready": True}]
POD = thing("v1", "Pod", "web-1", {"containers": CONTAINERS}, labels={"app": "web", "version": "v1"}) | {
    "status": {"phase": "Running", "containerStatuses": READY}
}
SERVICE = thing(
    "v1",
    "Service",
    "web",
    {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
)
RULE = thing(
    NETWORKING,
    "DestinationRule",
    "web",
    {
        "host": "web",
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "connectionPool": {"tcp": {"maxConnections": 1}},
            "portLevelSettings": [
                {"port": {"number": 80}, "tls": {"mode": "DISABLE"}, "loadBalancer": {"simple": "RANDOM"}}
            ],
        },
        "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")],
    },
)
ROUTES = [
    {
        "match": [{"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "y"}}}],
        "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 10}}},
        "route": [{"destination": {"host": "web", "subset": "v1"}, "weight": 100}],
    },
    {"route": [{"destination": {"host": "web", "subset": "v2"}}]},
]
VIRTUAL_SERVICE = thing(NETWORKING, "VirtualService", "web", {"hosts": ["web"], "http": ROUTES})
OF_PORT = thing(
    SECURITY,
    "PeerAuthentication",
    "ports",
    {"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {"9080": {"mode": "DISABLE"}}},
)
TOKENS = thing(SECURITY, "RequestAuthentication", "tokens", {"jwtRules": [{"issuer": "https://a.example"}]})
OTHER = thing(SECURITY, "PeerAuthentication", "other", {"selector": {"matchLabels": {"app": "else"}}})
WORLD = (POD, SERVICE, RULE, VIRTUAL_SERVICE, OF_PORT, TOKENS, OTHER)

SAID = """\
Pod: web-1
   Pod Revision:
   Pod Ports: 9080 (app), 53/UDP (app)
--------------------
Service: web
   Port: http 80/HTTP targets pod port 9080
DestinationRule: web for "web"
   Matching subsets: v1
      (Non-matching subsets v2)
   Traffic Policy TLS Mode: ISTIO_MUTUAL
   Policies: connection pool
   Port Level Settings:
    80:
      TLS Mode: DISABLE
      Policies: load balancer
VirtualService: web
   Route to host "web" subset "v1" with weight 100%
   Fault injection abort 500 for 10%, Match: /a* when headers are x=y
   1 additional destination(s) that will not reach this pod
RBAC policies: ns[default]-policy[p]-rule[0]
--------------------
Effective PeerAuthentication:
   Workload mTLS mode: PERMISSIVE
   Port Level mTLS mode:
      9080: DISABLE
Applied PeerAuthentication:
   ports.default
Deciding PeerAuthentication:
   ports.default
Applied RequestAuthentication:
   tokens.default: issuers https://a.example
Certificates:
   none: the proxy has no certificate over SDS
Skipping Gateway information (no ingress gateway pods)
"""


def origin(kind: str, name: str) -> Json:
    path = f"/apis/networking.istio.io/v1/namespaces/default/{kind}/{name}"
    return {"filter_metadata": {"istio": {"config": path}}}


def rbac(name: str) -> Json:
    return {"name": "envoy.filters.http.rbac", "typed_config": {"rules": {"policies": {name: {}}}}}


def dumped(*, rule: str = "web", secrets_: Sequence[Json] = ()) -> Json:
    """What the pod's Envoy says."""
    host = "web.default.svc.cluster.local"
    http = {"http_filters": [rbac("ns[default]-policy[p]-rule[0]")]}
    chain = {"filter_chain_match": {"destination_port": 9080}, "filters": [{"name": HTTP, "typed_config": http}]}
    parts = {
        "Clusters": {
            "dynamic_active_clusters": [
                {"cluster": {"name": f"outbound|80||{host}", "metadata": origin("destination-rule", rule)}}
            ]
        },
        "Routes": {
            "dynamic_route_configs": [
                {
                    "route_config": {
                        "name": "80",
                        "virtual_hosts": [
                            {"domains": [host], "routes": [{"metadata": origin("virtual-service", "web")}]}
                        ],
                    }
                }
            ]
        },
        "Listeners": {
            "dynamic_listeners": [{"active_state": {"listener": {"name": "virtualInbound", "filter_chains": [chain]}}}]
        },
        "Secrets": {"dynamic_active_secrets": list(secrets_)},
    }
    kind = "type.googleapis.com/envoy.admin.v3."
    return {"configs": [{"@type": f"{kind}{name}ConfigDump", **part} for name, part in parts.items()]}


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command on objects of a file and a saved dump."""

    def ask(kind: str, name: str, world: Sequence[Json], dump: Json | None, *more: str) -> tuple[int, str, str]:
        (tmp_path / "world").mkdir(exist_ok=True)
        (tmp_path / "world" / "objects.yaml").write_text(yaml.safe_dump_all(world))
        given = ["x", "describe", kind, name, "--objects", str(tmp_path / "world"), *more]
        if dump is not None:
            (tmp_path / "dump.json").write_text(json.dumps(dump))
            given += ["-f", str(tmp_path / "dump.json")]
        code = program.main(given)
        return code, *capsys.readouterr()

    return ask


def test_a_pod_is_told_with_all_that_holds_for_it(run: Run) -> None:
    code, out, err = run("pod", "web-1", WORLD, dumped())
    assert (code, err) == (0, "")
    assert "\n".join(line.rstrip() for line in out.splitlines()) + "\n" == SAID


def test_a_service_is_told_with_the_rules_of_its_pods(run: Run) -> None:
    code, out, _ = run("svc", "web.default", WORLD, dumped())
    assert code == 0
    assert out.splitlines()[0] == "Service: web"
    assert "   Matching subsets: v1" in out.splitlines()
    assert run("service", "web", [SERVICE], dumped())[1] == 'Service "web" has no pods.\n'
    bare = thing("v1", "Pod", "bare", {"containers": [CONTAINERS[0]]}, labels={"app": "web"})
    stopped, old = bare | {"status": {"phase": "Failed"}}, bare | {"status": {"phase": "Running"}}
    for pod, reason in (
        (stopped, "   Pod is not Running (Failed)"),
        (old, 'Pod bare: no container "istio-proxy" in pod'),
    ):
        lines = run("service", "web", [SERVICE, pod], None)[1].splitlines()
        assert lines[:2] == [reason, 'Service "web" has no Istio pods.  (1 pods in service).']


def test_what_the_proxy_has_and_the_cluster_has_not_is_called_stale(run: Run) -> None:
    _, out, _ = run("pod", "web-1", [POD, SERVICE], dumped(rule="gone"))
    for name in ("destination rule gone.default", "virtual service web.default"):
        assert f"WARNING: Proxy is stale; it references to non-existent {name}\n" in out


def test_routes_to_subsets_that_nobody_knows_are_named(run: Run) -> None:
    lost = thing(NETWORKING, "VirtualService", "web", {"hosts": ["web"], "http": ROUTES[1:]})
    _, out, _ = run("pod", "web-1", [POD, SERVICE, RULE, lost], dumped())
    assert "   WARNING: No destinations match pod subsets (checked 1 HTTP routes)\n" in out
    assert "      Route to non-matching subset v2 for (everything)\n" in out
    _, out, _ = run("pod", "web-1", [POD, SERVICE, lost], dumped())
    assert "      Warning: Route to subset v2 but NO DESTINATION RULE defining subsets!\n" in out
    other = RULE | {"spec": {"host": "web", "subsets": [{"name": "v9"}]}}
    _, out, _ = run("pod", "web-1", [POD, SERVICE, other, lost], dumped())
    assert "      Warning: Route to UNKNOWN subset v2; check DestinationRule web\n" in out


def test_a_pod_outside_of_the_mesh_is_told_without_a_proxy(run: Run) -> None:
    app = {**CONTAINERS[0], "securityContext": {"runAsUser": 1337}}
    bare = thing("v1", "Pod", "web-1", {"containers": [app]}) | {"status": {"phase": "Running"}}
    code, out, _ = run("pod", "web-1", [bare, SERVICE], None)
    assert code == 0
    assert out.splitlines() == [
        "WARNING: User ID (UID) 1337 is reserved for the sidecar proxy.",
        "Pod: web-1",
        "   Pod Revision: ",
        "   Pod Ports: 9080 (app), 53/UDP (app)",
        "WARNING: web-1 is not part of mesh; no Istio sidecar",
        "Warning: No Kubernetes Services select pod web-1",
        "--------------------",
        "Skipping Gateway information (no ingress gateway pods)",
    ]
    assert "WARNING" not in run("pod", "web-1", [bare], None, "--ignoreUnmeshed")[1].partition("\n")[2]


def test_a_port_that_the_pod_lacks_is_said(run: Run) -> None:
    odd = SERVICE | {
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "x", "port": 1, "targetPort": "no"}, {"port": 2}]}
    }
    lines = run("pod", "web-1", [POD, odd], dumped())[1].splitlines()
    assert "   Port: x 1 targets port 'no', which the pod does not have" in lines
    assert "   Port:  2/auto-detect targets pod port 2" in lines
    assert lines[lines.index("1:") + 1] == "2:"


def test_ingress_gateways_that_show_the_service_are_named(run: Run) -> None:
    pod = thing("v1", "Pod", "gate-1", {}, namespace="edge", labels={"istio": "ingressgateway"})
    pod["status"] = {"phase": "Running", "hostIP": "192.0.2.1"}
    ports = [{"name": "http2", "port": 8080}, {"name": "https", "port": 443}]
    gate = thing("v1", "Service", "gate", {"selector": {"istio": "ingressgateway"}, "ports": ports}, namespace="edge")
    servers = [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]
    gateway = thing(NETWORKING, "Gateway", "front", {"selector": {"istio": "ingressgateway"}, "servers": servers})
    bound = VIRTUAL_SERVICE | {
        "metadata": {"name": "out", "namespace": "default"},
        "spec": {"hosts": ["web.example"], "gateways": ["front", "edge/none", "mesh"], "http": ROUTES},
    }
    lines = run("pod", "web-1", [*WORLD, pod, gate, gateway, bound], dumped())[1].splitlines()
    at = lines.index("Exposed on Ingress Gateway http://192.0.2.1:8080")
    assert lines[at - 1 : at + 2] == ["--------------------", lines[at], "VirtualService: out"]
    assert lines[-1] == "WARNING: VirtualService out names the Gateway edge/none, which is not there"
    assert run("pod", "web-1", [*WORLD, pod], dumped())[1].endswith("(no ingress gateway service)\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("pod", "nobody"), 'pod "nobody" not found in namespace "default"'),
        (("pod", "web-1.other"), 'pod "web-1" not found in namespace "other"'),
        (("service", "nobody", "-n", "x"), 'service "nobody" not found in namespace "x"'),
        (("pod", "web-1"), "give the dump of the pod's Envoy with --file or --admin-address"),
    ],
)
def test_what_is_missing_is_named(run: Run, arguments: tuple[str, ...], reason: str) -> None:
    kind, name, *more = arguments
    code, out, err = run(kind, name, WORLD, None, *more)
    assert (code, out) == (1, "")
    assert reason in err


def test_files_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    for place, content in ((tmp_path / "none.yaml", None), (broken, "a: [")):
        if content:
            place.write_text(content)
        assert program.main(["x", "describe", "pod", "p", "--objects", str(place)]) == 1
        assert str(place) in capsys.readouterr().err
    broken.write_text(yaml.safe_dump(SERVICE | {"spec": {"ports": 7}}))
    assert program.main(["x", "describe", "service", "web", "--objects", str(broken)]) == 1
    assert "Warning: Service/default/web cannot be read and is left out" in capsys.readouterr().err


def test_files_from_other_editors_are_read_and_mistakes_have_their_line(tmp_path: Path) -> None:
    page = tmp_path / "services.yaml"
    page.write_text(f"\ufeff{json.dumps(SERVICE)}\r\n---\r\nnull\r\n")
    (tmp_path / "folder.yaml").mkdir()
    (found,) = objects.of_files([str(tmp_path)]).list(core.Service)
    assert found.metadata.name == "web"
    page.write_text(f"{json.dumps(SERVICE)}\n---\na: 1\na: 2\n")
    with pytest.raises(CommandError, match=re.escape(f"{page}:4: ")):
        objects.of_files([str(tmp_path)])


def test_a_saved_page_of_istiod_is_read_as_files_are(tmp_path: Path) -> None:
    page = json.dumps([POD, SERVICE, {"kind": "ConfigMap"}])
    (tmp_path / "configz.json").write_text(page)
    for known in (objects.of_files([str(tmp_path)]), objects.of_page("istiod", page.encode())):
        assert [each.metadata.name for each in known.list(core.Service, labels={})] == ["web"]
        assert known.get(core.Pod, "other", "web-1") is None


def test_rules_of_the_catch_all_chain_guard_ports_without_one_of_their_own() -> None:
    rest = {"filters": [{"name": HTTP, "typed_config": {"http_filters": [rbac("rest")]}}]}
    own = {"filter_chain_match": {"destination_port": 1}, "filters": []}
    inbound = {"name": "virtualInbound", "filter_chains": [rest, own]}
    assert authorizations.of_port([inbound], 2) == ["rest"]
    assert authorizations.of_port([inbound], 1) == []
    gateway = {"address": {"socket_address": {"port_value": 8080}}, "filter_chains": [rest]}
    assert authorizations.of_port([gateway], 8080) == ["rest"]


def test_certificates_say_whose_they_are_and_how_long_they_last() -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    pem = Authority(self_signed("cluster.local", now)).roots
    inline = base64.b64encode(pem.encode()).decode()
    held = [({"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_bytes": inline}}}}, "ACTIVE")]
    (certificate,) = [each for *_, each in secrets.held(held)]
    ends = certificate.not_valid_after_utc
    for moment, wanted in (
        (ends - dt.timedelta(days=2, hours=3), f"valid until {ends:%Y-%m-%dT%H:%M:%SZ}, for 2d3h"),
        (ends + dt.timedelta(minutes=61), f"EXPIRED {ends:%Y-%m-%dT%H:%M:%SZ}, 1h1m ago"),
        (now - dt.timedelta(days=9), "NOT VALID YET: begins "),
    ):
        heading, line = identities.certificates(held, moment)
        assert heading == "Certificates:"
        assert line.startswith(f"   ROOTCA (CA): {wanted}"), line


@pytest.mark.apiserver
def test_objects_come_out_of_a_real_cluster(apiserver: ApiServer, namespace: str) -> None:
    apiserver.kubectl("apply", "--server-side", "-f", str(DEFINITION))
    process.wait(
        "kind served", lambda: apiserver.call("kubectl", "get", "destinationrules").returncode == 0, seconds=60
    )
    for each in (POD, SERVICE, RULE):
        plain = {**each, "metadata": {**each["metadata"], "namespace": namespace}}
        apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(plain))
    found = objects.InCluster(cluster.Cluster(cluster.Options(kubeconfig=str(apiserver.kubeconfig))))
    assert [each.metadata.name for each in found.list(core.Pod, namespace, {"app": "web"})] == ["web-1"]
    assert found.list(core.Pod, namespace, {"app": "none"}) == []
    assert [each.spec.host for each in found.list(DestinationRule)] == ["web"]
    assert found.list(Gateway) == []  # a cluster that has no such kind
    service = found.get(core.Service, namespace, "web")
    assert service is not None
    assert service.spec.ports[0].target_port == "web"
    assert found.get(core.Service, namespace, "none") is None

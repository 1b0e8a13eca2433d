from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives import serialization
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from crds.parse import parse
from e2e.harness.ports import free_ports
from istiod import __main__ as program
from istiod import app, folders, pages, supervision
from istiod.ads.server import ProxyStatus
from istiod.ca import tokens
from istiod.config.proxy import Peer, Proxy
from istiod.settings import Settings
from tests.waiting import until
from tests.webhook.reviews import patched, pod, review
from wire import names, node

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec: {{host: web, trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {}}}}}}}}}
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: in, namespace: shop}
spec:
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ["*"]
    tls: {mode: SIMPLE, credentialName: "sds://outside"}
"""
BAD = "outbound|80||web.shop.svc.cluster.local"
Call = grpc.aio.StreamStreamCall[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse]


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def with_keys(folder: Path, **more: str) -> Settings:
    public = tokens.load_or_create_key(folder / "signer.pem").public_key()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public.public_bytes(*form))
    (folder / "config").mkdir(exist_ok=True)
    return Settings(
        config_dirs=(str(folder / "config"),),
        ca_dir=str(folder / "ca"),
        token_key=str(folder / "public.pem"),
        monitoring_address=free_address(),
        **more,
    )


async def test_all_servers_answer_until_told_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = with_keys(tmp_path, grpc_address=free_address(), mtls_address=free_address(), ca_address=free_address())
    (tmp_path / "config" / "web.yaml").write_text(SERVICE)
    stop = asyncio.Event()
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    url = f"http://{settings.monitoring_address}"
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while True:
            try:
                async with session.get(f"{url}/ready") as answer:
                    if answer.status == 200:
                        break
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)
        async with session.get(f"{url}/debug/configz") as answer:
            assert [item["metadata"]["name"] for item in await answer.json()] == ["web"]
        async with session.get(f"{url}/debug/syncz") as answer:
            assert await answer.json() == []
    for address in (settings.grpc_address, settings.mtls_address, settings.ca_address):
        host, _, port = address.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
    stop.set()
    await asyncio.wait_for(running, 10)
    assert "ready, 1 objects" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grpc_address": "10.0.0.1:15010"}, "loopback only"),
        ({"grpc_address": "127.0.0.1:99999"}, "'99999' is no port from 0 to 65535"),
        ({"monitoring_address": "127.0.0.1:http"}, "'http' is no port"),
        ({"monitoring_address": "15014"}, "15014: no HOST:PORT"),
        ({"monitoring_address": "nohost.invalid:0"}, "nohost.invalid:0: "),
        ({"mtls_address": "127.0.0.1:0", "ca_dir": ""}, "need --caDir"),
        ({"mtls_address": "127.0.0.1:0", "token_key": ""}, "need --tokenKey"),
        ({"ca_address": "127.0.0.1:0", "token_key": "absent.pem"}, "--tokenKey absent.pem"),
    ],
    ids=[
        "plaintext for strangers",
        "no such port",
        "no number",
        "no colon",
        "no such host",
        "no keys",
        "no signer",
        "no such key",
    ],
)
async def test_settings_that_cannot_work_are_one_line(tmp_path: Path, change: dict[str, str], message: str) -> None:
    made = with_keys(tmp_path)
    settings = Settings(
        **{name: getattr(made, name) for name in made.__slots__} | change,
    )
    with pytest.raises(app.SettingsError, match=message):
        await app.run(settings)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rsa.pem").write_text("no key")
    with pytest.raises(app.SettingsError, match="tokenKey"):
        folders.public_key(str(tmp_path / "rsa.pem"))


def test_of_a_secret_the_debug_page_shows_only_that_it_exists() -> None:
    metadata = {"name": "db", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"}}
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": "hunter2"}}
    item = parse({**document, "data": {"key": "hunter2"}}).object
    assert item is not None
    page = pages.shown(item)
    assert page["metadata"]["name"] == "db"
    assert "hunter2" not in str(page)


def test_istiods_flags_become_settings() -> None:
    arguments = program.parser().parse_args(
        ["discovery", "--configDir", "a", "--configDir", "b", "--grpcAddr", "127.0.0.1:15010", "--caDir", "keys"]
    )
    settings = program.settings_of(arguments)
    assert settings.config_dirs == ("a", "b")
    assert (settings.grpc_address, settings.ca_dir, settings.mtls_address) == ("127.0.0.1:15010", "keys", "")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "istiod: no --configDir, no --kubeconfig, and no service account: nothing to read"),
        (("--clusterID", "east"), "istiod: --clusterID (or CLUSTER_ID) east: only Kubernetes is supported yet"),
        (("--kubeconfig", "/absent"), "istiod: --kubeconfig /absent: No such file or directory"),
        (
            ("--kubeconfig", "/absent", "--configDir", "rules"),
            "istiod: --kubeconfig is not for --configDir: objects come from one of both",
        ),
        (("--configDir", ""), "istiod: --configDir '' names no folder"),
        (("--configDir", "a", "--trustDomain", "a b"), "istiod: --trustDomain 'a b' is no name of a trust domain"),
        (("--configDir", "a", "--domain", "a b"), "istiod: --domain: domain 'a b' is invalid: label 'a b' is invalid"),
    ],
    ids=["no cluster", "another cluster", "no such file", "two sources", "no folder", "no trust domain", "no domain"],
)
def test_a_mistake_in_the_flags_is_one_line_and_exit_code_1(flags: tuple[str, ...], message: str) -> None:
    command = [sys.executable, "-m", "istiod", "discovery", *flags]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin"})
    assert (run.returncode, run.stderr.strip()) == (1, message)


def test_in_a_cluster_servers_listen_where_istios_do() -> None:
    """And in plaintext not at all, without being asked to (SEC10)."""
    settings = program.settings_of(program.parser().parse_args(["discovery"]), environment={"REVISION": "canary"})
    assert settings.kubernetes
    assert (settings.http_address, settings.monitoring_address, settings.https_address) == (":8080", ":15014", ":15017")
    assert (settings.ca_address, settings.mtls_address, settings.grpc_address) == (":15012", ":15011", "")
    assert settings.cluster.named("istio") == "istio-canary"


async def finding(session: aiohttp.ClientSession, url: str, code: str) -> list[dict[str, str]]:
    async with session.get(f"{url}/debug/diagnosticsz") as answer:
        return [found for found in await answer.json() if found["code"] == code]


async def test_what_a_proxy_refuses_is_a_finding_on_its_object_until_it_is_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = with_keys(tmp_path, grpc_address=free_address())
    rule = tmp_path / "config" / "web.yaml"
    rule.write_text(SERVICE + "---\n" + RULE.format("1s"))
    stop = asyncio.Event()
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    url = f"http://{settings.monitoring_address}"
    async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(settings.grpc_address) as channel:
        await until(lambda: ready(session, url), "it serves")
        call = await asking(channel)
        brought: list[str] = []
        while brought != [BAD]:
            response = await call.read()
            brought = [resource.name for resource in response.resources]
            await call.write(answer_to(response, error="no such thing" if BAD in brought else ""))
        await until(lambda: has(session, url, 1), "the finding is there")
        (found,) = await finding(session, url, "M0201")
        assert found["object"] == "DestinationRule/shop/web"
        assert found["message"].endswith(f"Envoy refuses Cluster {BAD}: no such thing (on app.shop)")
        rule.write_text(SERVICE + "---\n" + RULE.format("2s"))
        await until(lambda: has(session, url, 0), "it is gone with its cause")
    stop.set()
    await asyncio.wait_for(running, 10)
    assert capsys.readouterr().err.count("M0201") == 1


async def test_a_gateway_without_the_socket_that_its_credential_needs_says_so_until_its_proxy_is_gone(
    tmp_path: Path,
) -> None:
    settings = with_keys(tmp_path, grpc_address=free_address())
    (tmp_path / "config" / "in.yaml").write_text(GATEWAY)
    stop = asyncio.Event()
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    url = f"http://{settings.monitoring_address}"

    async def told() -> list[str]:
        return [found["object"] for found in await finding(session, url, "M0128")]

    async def said() -> bool:
        return bool(await told())

    async def quiet() -> bool:
        return not await told()

    async with aiohttp.ClientSession() as session:
        await until(lambda: ready(session, url), "it serves")
        assert await told() == []
        async with grpc.aio.insecure_channel(settings.grpc_address) as channel:
            await asking(channel, "router~10.0.0.9~in.shop~shop.svc.cluster.local")
            await until(said, "it says so")
            assert await told() == ["Gateway/shop/in"]
            await an_older_envoy_is_told(session, url, channel)
        await until(quiet, "nobody lacks it any more")
    stop.set()
    await asyncio.wait_for(running, 10)


async def an_older_envoy_is_told(session: aiohttp.ClientSession, url: str, channel: grpc.aio.Channel) -> None:
    """With its version in syncz, what it lacks there and among findings, and that nobody tries such Envoys."""
    await asking(channel, "sidecar~10.0.0.8~old.shop~shop.svc.cluster.local", (1, 35, 2))

    async def found() -> bool:
        return bool(await finding(session, url, "M0127"))

    await until(found, "it is told", 30)
    assert ["(on old.shop)" in each["message"] for each in await finding(session, url, "M0127")] == [True]
    assert "envoy.access_loggers.stats" in str(await finding(session, url, "M0126"))
    async with session.get(f"{url}/debug/syncz") as answer:
        known = {each["proxy"]: (each["envoy_version"], each["lacks"]) for each in await answer.json()}
    connecting = ["TcpProxy.max_early_data_bytes", "TcpProxy.upstream_connect_mode"]
    assert known == {"in.shop": ("", []), "old.shop": ("1.35.2", [*connecting, "envoy.access_loggers.stats"])}


async def has(session: aiohttp.ClientSession, url: str, count: int) -> bool:
    return len(await finding(session, url, "M0201")) == count


async def ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def asking(
    channel: grpc.aio.Channel,
    node_id: str = "sidecar~10.0.0.1~app.shop~shop.svc.cluster.local",
    envoy: tuple[int, int, int] | None = None,
) -> Call:
    """A stream that has asked for clusters."""
    asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
    asked.node.id = node_id
    if envoy is not None:
        said = asked.node.user_agent_build_version.version
        said.major_number, said.minor_number, said.patch = envoy
    call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
    await call.write(asked)
    return call


def answer_to(response: discovery_pb2.DeltaDiscoveryResponse, error: str) -> discovery_pb2.DeltaDiscoveryRequest:
    said = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
    if error:
        said.error_detail.message = error
    return said


@pytest.mark.parametrize("pending", [False, True])
def test_nobody_is_settled_while_a_change_waits_to_be_pushed(*, pending: bool) -> None:
    claims = node.parse("sidecar~10.244.0.77~web.shop~shop.svc.cluster.local", {"NAMESPACE": "shop"})
    proxy = Proxy(peer=Peer(address="ipv4:127.0.0.1:1", identity=None), node=claims)
    status = ProxyStatus(proxy=proxy, types=(), target=1, settled=True, acked_at=1.0)
    assert pages.syncz(status, 3.0, pending=pending)["settled"] is not pending


def test_a_line_is_said_once_a_minute() -> None:
    now = 0.0
    said: list[str] = []
    lines = supervision.Lines(said.append, lambda: now)
    for now in (0.0, 30.0, 59.0, 61.0):
        lines.say("same")
        lines.say(f"other {now}")
    assert said.count("same") == 2
    assert len(said) == 6


INJECTOR = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio-sidecar-injector, namespace: istio-system}}
data:
  values: |
    {}
"""


async def test_webhooks_serve_with_the_settings_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = free_address()
    (tmp_path / "config").mkdir()
    rules = tmp_path / "config" / "injector.yaml"
    rules.write_text(INJECTOR.format("{global: {hub: h, tag: 1, surprise: 2}}"))
    settings = Settings(config_dirs=(str(tmp_path / "config"),), ca_dir=str(tmp_path / "ca"), https_address=address)
    stop = asyncio.Event()
    running = asyncio.create_task(app.ControlPlane(settings).run(stop))
    trust = ssl.create_default_context()
    async with asyncio.timeout(30):
        await until((tmp_path / "ca" / "root-cert.pem").exists, "a root")
        trust.load_verify_locations(tmp_path / "ca" / "root-cert.pem")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as client:
            url = f"https://localhost:{address.rpartition(':')[2]}"

            async def image() -> str:  # "" while there is no answer
                try:
                    async with client.post(f"{url}/inject?timeout=10s", json=review(pod())) as answer:
                        said = await answer.json()
                except aiohttp.ClientConnectionError:
                    return ""
                if not said["response"]["allowed"]:
                    return ""
                return str(patched(pod(), said)["spec"]["containers"][1]["image"])

            async def shown(wanted: str) -> bool:
                return await image() == wanted

            await until(lambda: shown("h/proxyv2:1"), "the first settings")
            rules.write_text(INJECTOR.format("{global: {hub: h, tag: 2}}"))
            await until(lambda: shown("h/proxyv2:2"), "the changed settings")
            rules.write_text(INJECTOR.format("{global: {hub: 7}}"))  # unreadable: the last good settings stay
            await until(lambda: "data.values.global.hub" in capsys.readouterr().err, "a finding")
            assert await image() == "h/proxyv2:2"
    stop.set()
    await running


def test_what_was_said_once_costs_nothing_later() -> None:
    said: list[str] = []
    lines = supervision.Lines(said.append, lambda: 0.0)
    began = time.process_time()
    for number in range(20_000):
        lines.say(f"line {number}")
    assert time.process_time() - began < 5  # 20 s and more where each looks at all before it
    assert len(said) == 20_000

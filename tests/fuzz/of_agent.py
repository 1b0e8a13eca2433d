"""What the agent reads in a pod: environment, files, the kubelet, apps, Envoy, istiod, iptables. Of names: of_dns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from agent import bootstrap, departure, httpwire, metrics, notices, probes, scrape, settings
from agent.bootstrap import inputs, patched, proxyconfig
from agent.iptables import flags, rules, state
from agent.iptables.capture import ipv4, ipv6
from agent.sds import files, identity, secrets
from agent.sds import settings as credentials
from agent.sds.session import Session
from tests.fuzz import of_wire
from tests.fuzz.target import Target, joined, parts, run, text
from wire.spiffe import Identity

MACHINE = flags.Machine(addresses=("10.0.0.1", "fd00::1"), name_servers=("10.0.0.2",), users={"istio-proxy": "1337"})
BOOTSTRAP = bootstrap.build(inputs.Inputs(kind="sidecar", config=proxyconfig.merge("{}")))
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@contextlib.asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[int]:
    """A server that gives every client these bytes, and hangs up."""

    ended: list[asyncio.Event] = []

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(end := asyncio.Event())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.read(1_000)
            writer.write(raw)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        end.set()

    async with await asyncio.start_server(give, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    for each in ended:
        await each.wait()


def answers(raw: bytes) -> None:
    """What an app or Envoy answers to a request of the agent."""

    async def ask() -> None:
        async with answering(raw) as port:
            found = await httpwire.request(httpwire.Target("127.0.0.1", port), "GET", "/", seconds=5)
            assert len(found.body) <= httpwire.MAX_BODY_BYTES

    run(ask())


def scraped(raw: bytes) -> None:
    """Metrics of Envoy and of the app; a source that makes no sense is left out."""

    async def ask() -> None:
        async with answering(raw) as port:
            counted = metrics.Metrics("1")
            app = scrape.endpoints(json.dumps({"scrape": "true", "port": str(port), "path": "/"}), 15020)
            made = scrape.Scrape(httpwire.Target("127.0.0.1", port), app, counted, {"app": "me"})
            fields = {"x-prometheus-scrape-timeout-seconds": "".join(filter(str.isprintable, text(raw[:20])))}
            async for block in made.answer(fields):
                assert block
            async for block in made.envoy_alone(fields):
                assert block

    run(ask())


def probed(raw: bytes) -> None:
    """A declared probe, and what the app answers."""
    declared, _, answer = raw.partition(b"\x1f")

    async def ask() -> None:
        async with answering(answer) as port:
            given = text(declared).replace("PORT", str(port))
            prober = probes.Probers(given, "127.0.0.1")
            for path in list(json.loads(given or "{}"))[:1]:
                assert await prober.probe(path, {"x": "y"}) >= 100

    run(ask())


def requests(raw: bytes) -> None:
    """What somebody asks at 15020."""

    async def ask() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await httpwire.read_head(reader)

    run(ask())


def sds(raw: bytes) -> None:
    """What Envoy asks over SDS."""
    world, delta = Session(), Session()
    known = {"default": secrets.roots("default", b"x"), "ROOTCA": secrets.roots("ROOTCA", b"y")}
    for number, each in enumerate(raw.split(of_wire.STREAM)[:20]):
        if number % 2:
            request = discovery_pb2.DiscoveryRequest.FromString(each)
            world.replace(request.resource_names, request.response_nonce)
            world.sent(world.due(known.get))
            continue
        other = discovery_pb2.DeltaDiscoveryRequest.FromString(each)
        delta.change(
            other.resource_names_subscribe, other.resource_names_unsubscribe, dict(other.initial_resource_versions)
        )
        delta.sent(delta.due(known.get))


def chains(raw: bytes) -> None:
    """What a CA answers to a request for a certificate."""

    async def sign(_: str) -> list[str]:
        return parts(raw, 3)

    run(identity.obtain(sign, Identity("cluster.local", "demo", "app")))


def mounted(raw: bytes) -> None:
    """Files that somebody else's CA writes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        paths = [Path(folder) / name for name in (identity.CHAIN_FILE, identity.KEY_FILE, identity.ROOT_FILE)]
        for path, content in zip(paths, parts(raw, 3), strict=True):
            path.write_text(content)
        given = files.Mounted(chain=paths[0], key=paths[1], roots=paths[2])
        files.FileIdentity(given, secrets.Secrets(), metrics.Metrics("1"))._look()


def started(raw: bytes) -> None:
    """What a pod is started with: ProxyConfig, its annotation, a variable of metadata and the downward API's files."""
    config, annotated, objects, labels, notes = parts(raw, 5)
    merged = proxyconfig.merge(config, annotated)
    environment = {
        "PROXY_CONFIG": config,
        "ISTIO_METAJSON_ANNOTATIONS": objects,
        "ISTIO_META_LOAD_STATS_CONFIG_JSON": annotated,
        "ENVOY_STATUS_PORT": "15021",
    }
    given = inputs.Inputs(
        kind="sidecar",
        config=merged,
        environment=environment,
        labels=settings.parse_downward(labels),
        annotations=settings.parse_downward(notes),
    )
    json.dumps(bootstrap.build(given))
    list(notices.of(given))


def variables(raw: bytes) -> None:
    """One value for each variable of the agent, one after the other, and for its flags."""
    said = text(raw)
    for name in _VARIABLES:
        environment = {name: said}
        for read in (_gather, credentials.read, departure.limit):
            with contextlib.suppress(inputs.InputError):
                read(environment)


def _gather(environment: dict[str, str]) -> object:
    return settings.gather(settings.Flags(domain=environment.get("DOMAIN", "")), environment)


_VARIABLES = (
    *("PROXY_CONFIG", "INSTANCE_IP", "INSTANCE_IPS", "ISTIOD_SAN", "SECRET_TTL", "MINIMUM_DRAIN_DURATION", "DOMAIN"),
    *("TERMINATION_DRAIN_DURATION_SECONDS", "ISTIO_CPU_LIMIT", "ENVOY_STATUS_PORT", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS"),
    *(
        "PROXY_XDS_VIA_AGENT",
        "FILE_MOUNTED_CERTS",
        "OUTPUT_CERTS",
        "SECRET_GRACE_PERIOD_RATIO",
        "ECC_SIGNATURE_ALGORITHM",
    ),
    *(
        "ISTIO_META_CERTIFICATE",
        "TERMINATION_GRACE_PERIOD_SECONDS",
        "ISTIO_DRAIN_UNTIL_ACKNOWLEDGED",
        "ECC_CURVE",
        "PKCS8_KEY",
    ),
)


def captured(raw: bytes) -> None:
    """Arguments and environment of istio-iptables, up to the lines for iptables-restore."""
    argv, name, said = parts(raw, 3)
    values = flags.read([each for each in argv.split("\n") if each], {name.replace("\0", ""): said})
    flags.options(values)
    flags.in_vain(values)
    given = flags.capture(values, MACHINE)
    for family in (ipv4(given), ipv6(given)):
        for line in rules.restore_input(rules.build(given, family)):
            assert line.isprintable(), line


def saved(raw: bytes) -> None:
    """The output of iptables-save."""
    found = state.parse(text(raw))
    state.same_shape(found, ())
    state.replacement(found, (), ())


def _patches() -> bytes:
    found = bootstrap_pb2.Bootstrap()
    found.stats_flush_interval.seconds = 5
    found.static_resources.clusters.add(name="added").connect_timeout.seconds = 1
    found.stats_config.use_all_default_tags.value = False
    return bytes(found.SerializeToString())


def _targets() -> tuple[Target, ...]:
    root = of_wire.ca().roots
    key = of_wire.key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    probe = '{"/app-health/a/livez": {"httpGet": {"port": PORT, "path": "/b"}, "timeoutSeconds": 1}}'
    subscribe = discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=["default", "ROOTCA"])
    of_world = discovery_pb2.DiscoveryRequest(resource_names=["default"], response_nonce="1", version_info="x")
    refused = (inputs.InputError,)
    return (
        Target(
            name="bootstrap-patches",
            call=lambda raw: patched.merged(BOOTSTRAP, raw),
            refusals=(patched.PatchError,),
            seeds=(b"", _patches()),
        ),
        Target(
            name="http-answer",
            call=answers,
            refusals=(httpwire.HttpError,),
            seeds=(
                _HEAD + b"Content-Length: 5\r\n\r\nhello",
                _HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
                b"HTTP/1.0 301 \r\nLocation: /x\r\n\r\nrest",
            ),
        ),
        Target(
            name="scrape",
            call=scraped,
            seeds=(
                _HEAD + b'\r\n# HELP a b\n# TYPE a counter\na{x="y"} 1 # {z="1"} 2\n# EOF\n',
                _HEAD + b"Content-Length: 30\r\n\r\nenvoy_istio_requests_total{} 1\n",
            ),
        ),
        Target(
            name="probe",
            call=probed,
            refusals=(*refused, json.JSONDecodeError),
            seeds=(
                probe.encode() + b"\x1f" + _HEAD + b"\r\n",
                probe.encode() + b"\x1fHTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/x\r\n\r\n",
                b'{"/app-health/a/readyz": {"tcpSocket": {"port": PORT}}}\x1f',
                b'{"/app-health/a/readyz": {"httpGet": {"port": "http", "httpHeaders": [{"name": "a"}]}}}\x1f',
            ),
        ),
        Target(
            name="http-request",
            call=requests,
            refusals=(httpwire.HttpError,),
            seeds=(b"GET /healthz/ready?a=b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",),
        ),
        Target(
            name="sds",
            call=sds,
            refusals=(DecodeError,),
            seeds=(of_wire.STREAM.join((subscribe.SerializeToString(), of_world.SerializeToString())),),
        ),
        Target(
            name="ca-answer",
            call=chains,
            refusals=(identity.IdentityError,),
            seeds=(joined(of_wire.chain(), root), joined(root, "", of_wire.chain()), b""),
        ),
        Target(
            name="mounted-certificates",
            call=mounted,
            refusals=(identity.IdentityError,),
            seeds=(joined(of_wire.chain(), key.decode(), root),),
        ),
        Target(
            name="start",
            call=started,
            refusals=refused,
            seeds=(
                joined(
                    "concurrency: 2\ntracing: {zipkin: {address: 'z.a:9411'}}\nrunValues: {}",
                    '{"proxyStatsMatcher": {"inclusionRegexps": ["a.*"]}, "extraStatTags": ["b"]}',
                    '{"sidecar.istio.io/statsHistogramBuckets": "{\\"a\\": [1]}"}',
                    'app="a"\nistio-locality="r.z"',
                    'sidecar.istio.io/statsInclusionPrefixes="a,b"\n',
                ),
                joined("statsdUdpAddress: 'a:9125'", '{"connectionSettings": {"globalDownstreamConnectionLimit": 5}}'),
                joined("envoyAccessLogService: {address: 'a:1'}\nenvoyMetricsService: {address: 'b:2'}", "{}", "{}"),
                joined("", "{}", "{}"),
            ),
        ),
        Target(name="agent-variables", call=variables, seeds=(b"5s", b"true", b"10.0.0.1,::1", b"0.5", b"{}")),
        Target(
            name="iptables-flags",
            call=captured,
            refusals=(flags.FlagError,),
            seeds=(
                joined(
                    "-p\n15001\n-u\n1337\n-m\nREDIRECT\n-i\n*\n-x\n10.0.0.0/8\n-b\n*\n-d\n15090,15021\n--redirect-dns"
                ),
                joined(
                    "--istio-inbound-ports=80:90\n--probe-timeout=1m5s",
                    "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
                    "127.0.0.1/32",
                ),
                joined("-m\nTPROXY\n-t\n1337\n-k\neth0,eth1\n--dual-stack", "ISTIO_OUTBOUND_OWNER_GROUPS", "a,b"),
            ),
        ),
        Target(
            name="iptables-save",
            call=saved,
            seeds=(
                b"*nat\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -p tcp -j ISTIO_OUTPUT\n-A ISTIO_OUTPUT -j RETURN\nCOMMIT\n",
            ),
        ),
    )


TARGETS = _targets()

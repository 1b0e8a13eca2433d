"""One scope with every feature that the compiler knows, for whole-configuration tests."""

from __future__ import annotations

from datetime import timedelta

from crds.key import ConfigKey
from istiod.config.origin import Origin
from istiod.mesh.families import Families
from istiod.mesh.policy import (
    ConnectionPool,
    HashCookie,
    HashPolicy,
    Keepalive,
    LbAlgorithm,
    LoadBalancer,
    LocalityLb,
    OutlierDetection,
    RetryBudget,
    TlsMode,
    TrafficPolicy,
    Warmup,
)
from istiod.mesh.route import (
    Abort,
    Cors,
    Delay,
    DirectResponse,
    Fault,
    HeaderMatch,
    HeaderOperations,
    Headers,
    MatchKind,
    Mirror,
    QueryMatch,
    Redirect,
    Retry,
    Rewrite,
    RouteMatch,
    RouteTable,
    StringMatch,
    WeightedDestination,
)
from istiod.mesh.scope import (
    Chain,
    ChainMatch,
    Cluster,
    Direction,
    Discovery,
    DownstreamTls,
    Http,
    Listener,
    Scope,
    Tcp,
    UpstreamTls,
    WeightedCluster,
)
from istiod.mesh.service import Protocol
from istiod.mesh.settings import DEFAULT_RETRY
from tests.envoy import made

SECOND = timedelta(seconds=1)
ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")


def balanced(algorithm: LbAlgorithm, **changes: object) -> TrafficPolicy:
    return TrafficPolicy(load_balancer=LoadBalancer(algorithm=algorithm, **changes))  # type: ignore[arg-type] # by name


def clusters() -> list[Cluster]:
    full = TrafficPolicy(
        load_balancer=LoadBalancer(locality=LocalityLb()),
        connection_pool=ConnectionPool(
            max_connections=1,
            connect_timeout=SECOND,
            keepalive=Keepalive(probes=3, time=SECOND, interval=SECOND),
            max_connection_duration=SECOND,
            http1_max_pending_requests=2,
            http2_max_requests=3,
            max_requests_per_connection=4,
            max_retries=5,
            http_idle_timeout=SECOND,
            max_concurrent_streams=6,
            http2_keepalive_interval=SECOND,
            http2_keepalive_timeout=SECOND,
        ),
        outlier_detection=OutlierDetection(
            consecutive_5xx=3,
            consecutive_gateway=0,
            consecutive_local_origin=2,
            split_external_local=True,
            interval=SECOND,
            base_ejection_time=SECOND,
            max_ejection_percent=50,
            min_health_percent=10,
        ),
        retry_budget=RetryBudget(),
    )
    warm = Warmup(duration=SECOND)
    files = UpstreamTls(mode=TlsMode.MUTUAL, sni="x", client_certificate="/c", private_key="/k", ca_certificates="/ca")
    dns = (made.endpoint("a.example", tls=False), made.endpoint("b.example", tls=False))
    fixed: list[Cluster] = [
        Cluster(name="BlackHoleCluster", discovery=Discovery.STATIC, direction=Direction.OUTBOUND),
        Cluster(
            name="PassthroughCluster",
            discovery=Discovery.ORIGINAL_DST,
            direction=Direction.OUTBOUND,
            downstream_protocol=True,
        ),
        Cluster(
            name="InboundPassthroughCluster",
            discovery=Discovery.ORIGINAL_DST,
            direction=Direction.INBOUND,
            bind_addresses=("127.0.0.6", "::6"),
        ),
        Cluster(
            name="inbound|9080||",
            discovery=Discovery.ORIGINAL_DST,
            direction=Direction.INBOUND,
            port=9080,
            bind_addresses=("127.0.0.6", "::6"),
        ),
    ]
    external: list[Cluster] = [
        made.cluster("dns", discovery=Discovery.STRICT_DNS, query=None, endpoints=dns, families=Families.DUAL),
        made.cluster("logical", discovery=Discovery.LOGICAL_DNS, query=None, endpoints=dns[:1], tls=files),
        made.cluster("static", discovery=Discovery.STATIC, query=None, endpoints=(made.endpoint(),), tls=None),
        made.cluster("credential", tls=UpstreamTls(mode=TlsMode.MUTUAL, credential_name="cred")),
        made.cluster("insecure", tls=UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)),
    ]
    policies: list[Cluster] = [
        made.cluster("reviews", subset="v1", origin=made.POLICY),
        made.cluster("reviews", protocol=Protocol.GRPC, policy=full),
        made.cluster("sniffed", downstream_protocol=True, protocol=Protocol.UNSUPPORTED),
        made.cluster("upgraded", policy=TrafficPolicy(connection_pool=ConnectionPool(h2_upgrade=True))),
        made.cluster("tcp", protocol=Protocol.TCP, policy=TrafficPolicy(proxy_protocol="V2")),
        made.cluster("plain", tls=None, policy=TrafficPolicy(proxy_protocol="V1")),
        made.cluster("strict", tls=made.mesh_tls("strict", mode=TlsMode.ISTIO_MUTUAL)),
        made.cluster("ring", policy=balanced(LbAlgorithm.RING_HASH)),
        made.cluster("maglev", policy=balanced(LbAlgorithm.MAGLEV, maglev_table_size=5003)),
        made.cluster("random", policy=balanced(LbAlgorithm.RANDOM)),
        made.cluster("warm", policy=balanced(LbAlgorithm.LEAST_REQUEST, warmup=warm)),
        made.cluster("warm-robin", policy=balanced(LbAlgorithm.ROUND_ROBIN, warmup=warm)),
    ]
    return fixed + external + policies


def routes() -> RouteTable:
    exact = StringMatch(kind=MatchKind.EXACT, value="/a", ignore_case=True)
    regex = StringMatch(kind=MatchKind.REGEX, value="/items/[0-9]+")
    prefix = StringMatch(kind=MatchKind.PREFIX, value="/p")
    present = StringMatch(kind=MatchKind.PRESENT)
    changes = Headers(
        request=HeaderOperations(set=(("x-a", "1"), ("Host", "h.example")), add=(("x-b", "2"),), remove=("x-c",)),
        response=HeaderOperations(set=(("x-d", "%RESPONSE_CODE%"),), add=((":status", "1"),), remove=("host",)),
    )
    match = RouteMatch(
        path=prefix,
        headers=(
            HeaderMatch(name=":method", match=StringMatch(kind=MatchKind.EXACT, value="GET")),
            HeaderMatch(name="x-p", match=present),
            HeaderMatch(name="x-n", match=regex, invert=True),
        ),
        query=(QueryMatch(name="q", match=prefix), QueryMatch(name="r", match=present)),
    )
    cookie = HashCookie(name="c", path="/", ttl=SECOND, attributes=(("SameSite", "Lax"),))
    hashed = made.destination("reviews", hash_policy=HashPolicy(cookie=cookie))
    retry = Retry(
        attempts=3,
        retry_on="retriable-status-codes",
        status_codes=(503,),
        per_try_timeout=SECOND,
        remote_localities=True,
        backoff=SECOND,
    )
    cors = Cors(
        allow_origins=(exact, regex, prefix),
        allow_methods=("GET", "PUT"),
        max_age=SECOND,
        allow_credentials=True,
        forward_unmatched_preflights=False,
    )
    fault = Fault(delay=Delay(fixed=SECOND, percent=10), abort=Abort(http_status=418, percent=0.1))
    all_routes = [
        made.route(name="all", match=match, origin=made.RULE, retry=retry, cors=cors, fault=fault, headers=changes),
        made.route(name="exact", match=RouteMatch(path=exact), rewrite=Rewrite(path="/b", authority="o.example")),
        made.route(name="regex", match=RouteMatch(path=regex), rewrite=Rewrite(regex=("/items/([0-9]+)", r"/v2/\1"))),
        made.route(name="prefix", match=RouteMatch(path=prefix), rewrite=Rewrite(prefix="/")),
        made.route(
            name="split",
            destinations=(
                WeightedDestination(destination=made.destination("sniffed", mesh_tls=True), weight=75, headers=changes),
                WeightedDestination(destination=hashed, weight=25),
            ),
            retry=DEFAULT_RETRY,
            mirrors=(Mirror(destination=made.destination("tcp"), percent=12.5),),
            timeout=SECOND,
            operation="reviews:9080/*",
        ),
        made.route(name="moved", redirect=Redirect(authority="h.example", port=8443, scheme="https", code=308)),
        made.route(name="path", redirect=Redirect(path="/x")),
        made.route(name="under", redirect=Redirect(prefix="/y")),
        made.route(name="down", direct_response=DirectResponse(status=503, body=b"down")),
        made.route(name="grpc", fault=Fault(abort=Abort(grpc_status=14))),
    ]
    return made.table(made.virtual_host(routes=all_routes), made.virtual_host("sniffed", require_tls=True))


def outbound_listeners() -> list[Listener]:
    passthrough = Chain(
        name="PassthroughFilterChain",
        tcp=Tcp(stat_prefix="PassthroughCluster", clusters=(WeightedCluster(cluster="PassthroughCluster"),)),
    )
    split = Tcp(
        stat_prefix="db",
        clusters=(
            WeightedCluster(cluster=made.cluster_name("reviews"), weight=90),
            WeightedCluster(cluster=made.cluster_name("tcp"), weight=10),
        ),
        idle_timeout=SECOND,
    )
    http = Http(stat_prefix="outbound_0.0.0.0_9080", rds="9080", grpc_web=True)
    return [
        Listener(
            name="virtualOutbound",
            address="0.0.0.0",
            port=15001,
            direction=Direction.OUTBOUND,
            use_original_dst=True,
            chains=(
                Chain(
                    name="virtualOutbound-blackhole",
                    match=ChainMatch(destination_port=15001),
                    tcp=Tcp(stat_prefix="BlackHoleCluster", clusters=(WeightedCluster(cluster="BlackHoleCluster"),)),
                ),
                passthrough,
            ),
        ),
        Listener(
            name="0.0.0.0_9080",
            address="0.0.0.0",
            port=9080,
            direction=Direction.OUTBOUND,
            bind=False,
            inspect_http=True,
            detection_timeout=timedelta(0),
            chains=(
                Chain(
                    name="",
                    match=ChainMatch(transport_protocol="raw_buffer", application_protocols=("http/1.1", "h2c")),
                    http=http,
                ),
            ),
            default_chain=passthrough,
        ),
        Listener(
            name="10.96.0.1_5432",
            address="10.96.0.1",
            port=5432,
            direction=Direction.OUTBOUND,
            bind=False,
            inspect_tls=True,
            detection_timeout=timedelta(0),
            additional_addresses=("fd00::1",),
            chains=(
                Chain(name="sni", match=ChainMatch(server_names=("*.example", "b.example")), tcp=split),
                Chain(name="net", match=ChainMatch(prefixes=("10.1.2.3/16", "fd00::/8")), tcp=split, origin=made.RULE),
            ),
        ),
    ]


def inbound_listener() -> Listener:
    own = made.route(
        inbound=True, destinations=made.to(made.destination()), operation="reviews.default.svc.cluster.local:9080/*"
    )
    inline = RouteTable(
        name="inbound|9080||",
        virtual_hosts=(made.virtual_host(routes=[own], domains=("*",), include_attempt_count=False),),
        ignore_port=False,
    )
    tls = DownstreamTls(workload=True, mutual=True, alpn=("h2", "http/1.1"))
    match = ChainMatch(destination_port=9080, transport_protocol="tls", application_protocols=ISTIO_ALPN)
    return Listener(
        name="virtualInbound",
        address="0.0.0.0",
        port=15006,
        direction=Direction.INBOUND,
        use_original_dst=True,
        inspect_tls=True,
        inspect_http=True,
        tls_inspector_off=(15006,),
        http_inspector_off=(15006, 9080, 9080),
        detection_timeout=timedelta(0),
        chains=(
            Chain(
                name="0.0.0.0_9080",
                match=match,
                tls=tls,
                http=Http(stat_prefix="inbound_0.0.0.0_9080;", inline=inline, mesh_tls=True),
                origin=Origin(key=ConfigKey("security.istio.io", "PeerAuthentication", "default", "strict")),
            ),
            Chain(
                name="0.0.0.0_9080",
                match=ChainMatch(destination_port=9080, transport_protocol="raw_buffer"),
                http=Http(stat_prefix="inbound_0.0.0.0_9080;", inline=inline),
            ),
        ),
    )


def gateway_listener() -> Listener:
    def chain(name: str, tls: DownstreamTls) -> Chain:
        return Chain(
            name=name,
            match=ChainMatch(server_names=(f"{name}.example",)),
            tls=tls,
            http=Http(stat_prefix="outbound_0.0.0.0_8443", rds="9080"),
        )

    alpn = ("h2", "http/1.1")
    return Listener(
        name="0.0.0.0_8443",
        address="0.0.0.0",
        port=8443,
        direction=Direction.GATEWAY,
        inspect_tls=True,
        chains=(
            chain(
                "simple",
                DownstreamTls(
                    workload=False,
                    mutual=False,
                    alpn=alpn,
                    credential_name="web-cert",
                    min_version="TLSV1_2",
                    max_version="TLSV1_3",
                    cipher_suites=("ECDHE-ECDSA-AES128-GCM-SHA256",),
                ),
            ),
            chain(
                "mutual",
                DownstreamTls(
                    workload=False,
                    mutual=True,
                    alpn=alpn,
                    credential_name="kubernetes://web-cert",
                    subject_alt_names=("client.example",),
                ),
            ),
            chain(
                "files",
                DownstreamTls(
                    workload=False, mutual=True, alpn=alpn, certificate_file="/c", key_file="/k", ca_file="/ca"
                ),
            ),
            chain(
                "several",
                DownstreamTls(
                    workload=False,
                    mutual=True,
                    optional=True,
                    alpn=alpn,
                    credential_name="one",
                    more_credentials=("two",),
                    ca_credential_name="clients",
                    spki=("NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=",),
                    hashes=("00" * 32,),
                    gateway=True,
                ),
            ),
            chain(
                "pairs",
                DownstreamTls(
                    workload=False,
                    mutual=False,
                    alpn=alpn,
                    certificate_file="/c",
                    key_file="/k",
                    more_files=(("/c2", "/k2"),),
                ),
            ),
            chain("own", DownstreamTls(workload=True, mutual=True, alpn=alpn, gateway=True)),
            chain(
                "mesh",
                DownstreamTls(workload=True, mutual=True, alpn=alpn, subject_alt_names=("spiffe://x/ns/a/sa/b",)),
            ),
        ),
    )


def scope() -> Scope:
    own = inbound_listener()
    return made.scope(
        clusters=clusters(),
        listeners=[*outbound_listeners(), gateway_listener()],
        tables=[routes()],
        inbound=made.inbound([], [own]),
    )

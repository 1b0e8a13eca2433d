"""``proxy-config`` on a dump of a real Envoy (shortened): tables as istioctl's users know them, filters, JSON, YAML."""

import base64
import datetime as dt
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from istioctl import __main__ as program
from istioctl import camel, dump, logging_levels, proxy_config
from istioctl.errors import CommandError
from istioctl.views import endpoints, listeners, routes, secrets
from istiod.ca import authority

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "istioctl"
DUMP = str(GOLDEN / "config_dump.json")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def runs(*arguments: str) -> tuple[int, str, str]:
        code = program.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return runs


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [
        ("cluster.txt", ("cluster", "-f", DUMP)),
        ("listener.txt", ("listeners", "-f", DUMP)),
        ("route.txt", ("r", "--file", DUMP)),
        ("eds.txt", ("eds", "-f", DUMP)),
        ("endpoint.txt", ("endpoint", "-f", str(GOLDEN / "clusters.json"))),
        ("bootstrap.txt", ("bootstrap", "-f", DUMP, "-o", "short")),
        ("cluster.json", ("c", "-f", DUMP, "--fqdn", "reviews.default.svc.cluster.local", "--subset", "v2", "-ojson")),
        ("cluster.yaml", ("c", "-f", DUMP, "--fqdn", "reviews.default.svc.cluster.local", "--subset", "v2", "-oyaml")),
    ],
)
def test_outputs_are_those_that_users_know(run: Run, golden: str, arguments: tuple[str, ...]) -> None:
    assert run("proxy-config", *arguments) == (0, (GOLDEN / golden).read_text(), "")


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("cluster", "--port", "443"), ["istio-ingressgateway.istio-system.svc.cluster.local"]),
        (("cluster", "--direction", "inbound"), ["9080"]),
        (("cluster", "--fqdn", "agent"), ["agent"]),
        (("cluster", "--subset", "v9"), []),
        (("listener", "--port", "15021"), ["0.0.0.0"]),
        (("listener", "--address", "10.96.192.50"), ["10.96.192.50"]),
        (("listener", "--type", "tcp"), ["10.96.192.50", "0.0.0.0", "0.0.0.0"]),
        (("listener", "--port", "9080", "--verbose=false"), ["0.0.0.0"]),
        (("route", "--name", "9080", "--verbose=f"), ["9080"]),
        (("eds", "--cluster", "agent"), ["127.0.0.1:15020"]),
        (("eds", "--port", "8443", "--status", "healthy"), ["10.244.0.3:8443"]),
        (("eds", "--address", "10.244.0.6"), ["10.244.0.6:9080"]),
        (("eds", "--status", "unhealthy"), []),
    ],
)
def test_filters_leave_what_is_asked_for(run: Run, arguments: tuple[str, ...], first: list[str]) -> None:
    code, out, _ = run("pc", *arguments, "-f", DUMP)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == first


@pytest.mark.parametrize("kind", ["listener", "route", "all"])
def test_what_stands_after_a_flag_without_a_value_is_the_pod(run: Run, kind: str) -> None:
    wanted = run("pc", kind, "-f", DUMP)
    assert wanted[0] == 0
    assert run("pc", kind, "--verbose", "mypod", "-f", DUMP) == wanted


def test_everything_at_once_has_a_heading_each(run: Run) -> None:
    _, out, _ = run("pc", "all", "-f", DUMP)
    headings = [line for line in out.splitlines() if line.startswith("------")]
    titles = ("BOOTSTRAP", "CLUSTER", "LISTENER", "ROUTE", "SECRET", "ENDPOINTS")
    assert headings == [f"------ {title} INFO ------" for title in titles]
    _, out, _ = run("pc", "all", "-f", DUMP, "-o", "json")
    first = json.loads(out)["configs"][0]
    assert first["@type"].endswith("BootstrapConfigDump")
    assert first["bootstrap"]["node"]["metadata"]["pod_name"] == "kept_as_is"


def test_a_dump_that_istioctl_wrote_may_be_read_again_from_standard_input(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = run("pc", "all", "-f", DUMP, "-o", "json")[1]
    for kind in ("cluster", "listener", "route", "eds"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run("pc", kind, "-f", "-")[1] == (GOLDEN / f"{kind}.txt").read_text()
    assert camel.restored(json.loads(text)) == json.loads(Path(DUMP).read_text())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("cluster",), "name a pod, or a configuration dump with --file"),
        (("cluster", "-f", "/absent"), "cannot read /absent: No such file or directory"),
        (("cluster", "-f", str(GOLDEN / "clusters.json")), 'no list "configs"'),
        (("cluster", "-f", str(GOLDEN / "cluster.txt")), "cluster.txt: not JSON"),
        (("endpoint", "-f", DUMP), "not Envoy's /clusters?format=json; a configuration dump has eds"),
        (("cluster", "--admin-address", "nowhere"), "'nowhere' is not HOST:PORT"),
        (("cluster", "--admin-address", "127.0.0.1:1"), "127.0.0.1:1: cannot get /config_dump"),
        (("log", "x", "--level", "loud"), "'loud': a level is one of trace"),
        (("log", "x", "--level", "a&b:info"), "'a&b' is no logger of Envoy"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_reason(run: Run, arguments: tuple[str, ...], reason: str) -> None:
    code, out, err = run("pc", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert reason in err
    assert err.count("\n") == 1


def test_certificates_are_shown_with_what_makes_them_valid() -> None:
    held = dump.parse((GOLDEN / "config_dump.json").read_bytes(), DUMP)
    early, late = (dt.datetime(year, 11, 27, 18, tzinfo=dt.UTC) for year in (2026, 2027))
    leaf, root = secrets.rows(held.secrets(), early)
    assert leaf[:4] == ("default", "Cert Chain", "ACTIVE", "true")
    assert leaf[5:] == ("2026-11-28T17:19:35Z", "2026-11-27T17:17:35Z")
    assert root[:4] == ("ROOTCA", "CA", "ACTIVE", "true")
    assert [row[3] for row in secrets.rows(held.secrets(), late)] == ["false", "true"]
    (der,) = secrets.roots(held.secrets(), "ROOTCA")
    assert f"{x509.load_der_x509_certificate(der).serial_number:032x}" == root[4]
    assert secrets.roots(held.secrets(), "other") == frozenset()


def trusting(*roots: str) -> dump.Dump:
    """What an Envoy says that trusts these roots."""
    held = base64.b64encode("".join(roots).encode()).decode()
    secret = {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_bytes": held}}}}
    section = {"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": [secret]}
    return dump.parse(json.dumps({"configs": [section]}).encode(), "made")


def test_roots_of_two_pods_are_compared() -> None:
    """Row O10: ``rootca-compare``, also while a root is being replaced."""
    made = [authority.self_signed("cluster.local", dt.datetime.now(dt.UTC)).certificate.decode() for _ in range(2)]
    old, new = made

    def said(*held: dump.Dump) -> str:
        return proxy_config.compared(dict(zip(("a.default", "b.default"), held, strict=True)))

    assert "[a.default] and [b.default] have the identical ROOTCA" in said(trusting(old, new), trusting(new, old))
    assert "are being rotated" in said(trusting(old), trusting(new, old))
    for other, reason in ((trusting(new), "non identical ROOTCA"), (trusting(), "b.default has no ROOTCA")):
        with pytest.raises(CommandError, match=reason):
            said(trusting(old), other)


@pytest.mark.parametrize("secret", [{}, {"validation_context": {"trusted_ca": {"inline_bytes": "AAAA"}}}])
def test_a_secret_that_has_not_come_yet_is_shown_without_its_numbers(secret: dict[str, object]) -> None:
    row = secrets.rows([({"name": "late", "secret": secret}, "WARMING")], dt.datetime.now(dt.UTC))[0]
    assert (row[0], row[2], row[3], row[4]) == ("late", "WARMING", "false", "")


def test_matches_and_destinations_of_rarer_kinds() -> None:
    tcp = "envoy.filters.network.tcp_proxy"
    chains = [
        {
            "filter_chain_match": {"server_names": ["a.example", "b.example"]},
            "filters": [
                {"name": tcp, "typed_config": {"weighted_clusters": {"clusters": [{"name": "a"}, {"name": "b"}]}}}
            ],
        },
        {
            "filter_chain_match": {
                "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}],
                "destination_port": 1,
            },
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {}}],
        },
        {"filters": []},
    ]
    address = {"socket_address": {"address": "::", "port_value": 7}}
    other = [{"address": {"socket_address": {"address": "0.0.0.0", "port_value": 7}}}]
    rows = listeners.rows([{"name": "l", "address": address, "additional_addresses": other, "filter_chains": chains}])
    assert rows == [
        ("::,0.0.0.0", "7", "ALL", "Non-HTTP/Non-TCP"),
        ("::,0.0.0.0", "7", "Addr: 10.0.0.0/8:1", "HTTP"),
        ("::,0.0.0.0", "7", "SNI: a.example,b.example", "Cluster: a; Cluster: b"),
    ]
    assert listeners.kind({"filter_chains": []}) == "UNKNOWN"
    assert listeners.matched({"safe_regex": {"regex": "a.*"}}) == "regex a.*"
    assert listeners.matched({"path_separated_prefix": "/a"}) == "PathPrefix:/a"


@pytest.mark.parametrize(
    ("every", "shown"),
    [
        (["*"], "*"),
        ([], ""),
        (["a.b.svc.cluster.local", "a.b.svc.cluster.local.", "a", "a.b", "a.b.svc", "10.0.0.1"], "a, a.b + 1 more..."),
        (["a.example", "a.example:80"], "a.example"),
        (["[fd00:10:96::7fc7]", "[fd00:10:96::7fc7]:8090", "x"], "[fd00:10:96::7fc7], x"),
    ],
)
def test_of_many_domains_those_are_shown_that_say_most(every: list[str], shown: str) -> None:
    assert routes.domains(every) == shown


def test_a_virtual_host_without_routes_answers_404_and_passing_through_is_not_shown() -> None:
    passing = {"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}
    direct = {"match": {"path": "/x"}, "direct_response": {"status": 503}}
    hosts = [{"name": "none", "domains": ["a"]}, {"name": "some", "domains": ["b"], "routes": [passing, direct]}]
    rows = routes.rows([{"name": "80", "virtual_hosts": hosts}])
    assert rows == [("80", "none", "a", "/*", "404"), ("80", "some", "b", "/x", "503")]


def test_endpoints_that_are_no_ip_or_fail_their_checks() -> None:
    hosts = [
        {
            "address": {"socket_address": {"address": "fd00::1", "port_value": 80}},
            "health_status": {"failed_outlier_check": True},
        },
        {
            "address": {"envoy_internal_address": {"server_listener_name": "l"}},
            "health_status": {"eds_health_status": "DRAINING"},
        },
    ]
    assert endpoints.rows([{"name": "c", "host_statuses": hosts}]) == [
        ("envoy://l", "DRAINING", "OK", "c"),
        ("[fd00::1]:80", "UNKNOWN", "FAILED", "c"),
    ]


def test_levels_of_all_loggers_go_before_those_of_one() -> None:
    assert logging_levels.paths("", reset=False) == ["/logging"]
    assert logging_levels.paths("http:debug,info", reset=True) == [
        "/logging?level=warning",
        "/logging?level=info",
        "/logging?http=debug",
    ]
    assert logging_levels.paths("all:none", reset=False) == ["/logging?level=off"]
    assert logging_levels.parse("active loggers:\n  admin: info\n  http: debug\n") == {"admin": "info", "http": "debug"}


def test_names_become_camel_case_but_for_those_that_users_choose() -> None:
    given = {
        "lb_policy": "A",
        "metadata": {"filter_metadata": {"istio": {"my_key": 1}}},
        "typed_config": {"type_url": "x", "value": {"snake_key": 1}},
        "typed_per_filter_config": {"envoy.filters.http.grpc_stats": {"a_b": [{"c_d": 1}]}},
    }
    assert camel.converted(given) == {
        "lbPolicy": "A",
        "metadata": {"filterMetadata": {"istio": {"my_key": 1}}},
        "typedConfig": {"typeUrl": "x", "value": {"snake_key": 1}},
        "typedPerFilterConfig": {"envoy.filters.http.grpc_stats": {"aB": [{"cD": 1}]}},
    }


def test_an_answer_that_is_no_dump_is_an_error_of_the_one_asked() -> None:
    with pytest.raises(CommandError, match=r"web-1\.default: not JSON"):
        dump.parse(b"<html>", "web-1.default")
    for text in (b"[]", b'{"configs": {}}', b'{"configs": [1]}'):
        with pytest.raises(CommandError, match=r"web-1\.default: not a configuration dump"):
            dump.parse(text, "web-1.default")


def test_an_entry_of_a_dump_without_its_resource_is_left_out() -> None:
    kinds = {
        "ClustersConfigDump": "dynamic_active_clusters",
        "ListenersConfigDump": "dynamic_listeners",
        "RoutesConfigDump": "dynamic_route_configs",
        "EndpointsConfigDump": "dynamic_endpoint_configs",
    }
    configs = [{"@type": f"{dump.ADMIN}{kind}", part: [{"version_info": "1"}]} for kind, part in kinds.items()]
    held = dump.parse(json.dumps({"configs": configs}), "web-1.default")
    assert (held.clusters(), held.listeners(), held.routes(), held.endpoints()) == ([], [], [], [])

"""Metrics of Envoy, agent and app in one answer. Envoy and app are small stand-ins that send what they are told to."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import httpwire, metrics, scrape, series
from tests.agent.test_status import chunked, fetch, ok, running, serving
from webhook import metrics as injected
from wire import telemetry

ENVOY = (
    b'# TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{a="envoy_istio_"} 1\nenvoy_server_live 1\n'
)


async def merged(app: bytes, envoy: bytes = chunked(ENVOY[:60], ENVOY[60:])) -> str:
    async with (
        serving({"/stats/prometheus": envoy}) as proxy,
        serving({"/m": app}) as server,
        running(proxy, "", scrape.Endpoint(port=server.port, path="/m")) as (agent, _),
    ):
        answer = await fetch(agent, "/stats/prometheus")
        assert answer.status == 200
        return answer.body.decode()


async def test_one_answer_holds_all_three_under_istios_names() -> None:
    text = await merged(ok(b"app_total 7"))
    assert text.startswith(
        '# TYPE istio_requests_total counter\nistio_requests_total{a="envoy_istio_"} 1\nenvoy_server_live 1\n'
    )
    assert "\nistio_agent_scrapes_total 1\n" in text
    assert '\nistio_build{component="agent",tag="1.2.3"} 1\n' in text
    assert text.endswith("\napp_total 7\n")


async def test_envoys_own_port_gives_envoys_metrics_alone_under_istios_names() -> None:
    async with (
        serving({"/stats/prometheus": ok(ENVOY)}) as proxy,
        serving({"/m": ok(b"of_the_app 1\n")}) as server,
        running(proxy, "", scrape.Endpoint(port=server.port, path="/m")) as (agent, _),
    ):
        found = (await fetch(agent, telemetry.STATS_PATH)).body.decode()
    assert "istio_requests_total" in found
    assert "envoy_server_live" in found
    assert "of_the_app" not in found
    assert "istio_agent" not in found


MESSAGES = b"""# TYPE envoy_cluster_grpc_request_message_count counter
envoy_cluster_grpc_request_message_count{cluster_name="outbound|70||echo.default.svc.cluster.local"} 3
envoy_cluster_grpc_request_message_count{cluster_name="outbound|70|v1|echo.default.svc.cluster.local"} 4
envoy_cluster_grpc_request_message_count{cluster_name="outbound|443||e.example"} 1
envoy_cluster_grpc_response_message_count{cluster_name="inbound|70||"} 5
envoy_cluster_grpc_response_message_count{cluster_name="PassthroughCluster"} 6
"""


async def test_messages_are_counted_by_what_a_clusters_name_says() -> None:
    envoy = chunked(MESSAGES[:150], MESSAGES[150:])
    async with serving({"/stats/prometheus": envoy}) as proxy, running(proxy) as (agent, _):
        text = (await fetch(agent, telemetry.STATS_PATH)).body.decode()
    found = {
        (name, said["reporter"], said["source_app"], said["destination_app"], said["destination_service_name"]): value
        for name, labels, value in re.findall(r"^(istio_\w+)\{(.*)\} (\d+)$", text, re.MULTILINE)
        for said in [dict(re.findall(r'(\w+)="(.*?)"', labels))]
    }
    asked, answered = "istio_request_messages_total", "istio_response_messages_total"
    assert found == {
        (asked, "source", "me", "unknown", "echo"): "7",
        (asked, "source", "me", "unknown", "e.example"): "1",
        (answered, "destination", "unknown", "me", "unknown"): "5",
        (answered, "source", "me", "unknown", "PassthroughCluster"): "6",
    }
    assert "# TYPE istio_request_messages_total counter" in text


async def test_half_a_scrape_gives_no_sums() -> None:
    broken = chunked(MESSAGES)[:-20]
    async with serving({"/stats/prometheus": broken}) as proxy, running(proxy) as (agent, _):
        text = (await fetch(agent, telemetry.STATS_PATH)).body.decode()
    assert "envoy_cluster_grpc" in text
    assert "istio_request_messages_total" not in text


@pytest.mark.parametrize(
    "app",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 500 \r\n\r\nsorry",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.google.protobuf\r\n\r\n\x00",
    ],
)
async def test_an_app_that_gives_none_is_counted_and_leaves_the_others(app: bytes) -> None:
    async with (
        serving({"/stats/prometheus": ok(ENVOY)}) as proxy,
        serving({"/m": app}) as server,
        running(proxy, "", scrape.Endpoint(port=server.port, path="/m")) as (agent, _),
    ):
        first = (await fetch(agent, "/stats/prometheus")).body.decode()
        second = (await fetch(agent, "/stats/prometheus")).body.decode()
    assert "istio_requests_total" in first
    assert "sorry" not in first
    assert '\nistio_agent_scrape_failures_total{type="application"} 1\n' in second
    assert '\nistio_agent_scrape_failures_total{type="envoy"} 0\n' in second


async def test_an_envoy_that_is_away_leaves_the_apps_metrics() -> None:
    text = await merged(ok(b"app_total 7\n"), envoy=b"garbage\r\n\r\n")
    assert text.startswith("# HELP istio_agent_scrapes_total")
    assert '{type="envoy"} 1\n' in text
    assert text.endswith("\napp_total 7\n")


async def test_openmetrics_that_nobody_asked_for_is_made_readable() -> None:
    app = b'# TYPE a counter\na_total 1 # {t="x"} 1 2\nb{c="} # {d"} 2\nb{c="\\"} # {d"} 3 # {t="x"} 1\n# EOF\n'
    text = await merged(ok(app))
    assert text.endswith('# TYPE a counter\na_total 1\nb{c="} # {d"} 2\nb{c="\\"} # {d"} 3\n')


@pytest.mark.parametrize("line", [b"x" * 65_535 + b"\n", b"x" * 65_536])
async def test_a_gigabyte_of_metrics_ends_after_ten_megabytes(line: bytes) -> None:
    """Row SEC30 of the hostile inputs."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await httpwire.read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n")
        try:
            for _ in range(1024 * 16):
                writer.write(line)
                sent += len(line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            left.set()

    sent, left = 0, asyncio.Event()
    listener = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with listener, serving({"/stats/prometheus": ok(ENVOY)}) as proxy:
        port = listener.sockets[0].getsockname()[1]
        page = scrape.Scrape(
            httpwire.Target("127.0.0.1", proxy.port), (scrape.Endpoint(port=port, path="/m"),), metrics.Metrics("1"), {}
        )
        size = sum([len(part) async for part in page.answer({})])
        await left.wait()
    assert size < scrape.MAX_APP_BYTES + 10_000
    assert sent < 2 * scrape.MAX_APP_BYTES


async def test_an_app_that_hangs_costs_no_more_than_prometheus_waits() -> None:
    asked: list[dict[str, str]] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await httpwire.read_head(reader))[1])
        await reader.read(-1)
        writer.close()
        left.set()

    left = asyncio.Event()
    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    counted = metrics.Metrics("1")
    async with listener, serving({"/stats/prometheus": ok(ENVOY)}) as proxy:
        endpoint = scrape.Endpoint(port=listener.sockets[0].getsockname()[1], path="/m")
        page = scrape.Scrape(httpwire.Target("127.0.0.1", proxy.port), (endpoint,), counted, {})
        text = b"".join([part async for part in page.answer({"x-prometheus-scrape-timeout-seconds": "0.3"})])
        await left.wait()
    assert b"istio_requests_total" in text
    assert counted.failures == {"envoy": 0, "application": 1}
    assert asked[0]["x-prometheus-scrape-timeout-seconds"] == "0.3"
    assert asked[0]["accept"] == "text/plain;version=0.0.4"


@pytest.mark.parametrize(("given", "seconds"), [("x", 10), ("-1", 10), ("1000", 60), ("3.5", 3.5)])
def test_time_limits_that_cannot_be_meant_are_ours(given: str, seconds: float) -> None:
    assert scrape._limit({"x-prometheus-scrape-timeout-seconds": given}) == seconds


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("", []),
        ("{", []),
        ("[]", []),
        ('{"scrape": "false", "port": "81"}', []),
        ('{"scrape": "true", "port": "", "path": ""}', [(80, "/metrics")]),
        ('{"scrape": "true", "port": "9102", "path": "m"}', [(9102, "/m")]),
        ('{"scrape": "true", "port": "web", "path": "/m"}', []),
        ('{"scrape": "true", "port": "15020", "path": "/m"}', []),
        (
            '{"scrape":"true","port":"1","path":"/a","targets":[{"port":"1","path":"/a"},{"port":"2","path":"/b"}]}',
            [(1, "/a"), (2, "/b")],
        ),
    ],
)
def test_what_injection_declares_is_where_the_app_is_asked(declared: str, expected: list[tuple[int, str]]) -> None:
    assert [(each.port, each.path) for each in scrape.endpoints(declared, 15020)] == expected


def test_what_injection_writes_is_understood() -> None:
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "9102", "prometheus.io/path": "/m"}
    _, variable = injected.rewrite(annotations, 15020)
    assert scrape.endpoints(variable, 15020) == (scrape.Endpoint(port=9102, path="/m"),)
    _, variable = injected.rewrite(annotations | {injected.TARGETS: "1:/a,2"}, 15020)
    assert [each.path for each in scrape.endpoints(variable, 15020)] == ["/a", "/metrics"]
    assert json.loads(variable)["scrape"] == "true"


def test_the_agents_own_numbers_say_how_it_fares() -> None:
    counted = metrics.Metrics("1.2.3", started=0.0)
    assert "cert_expiry" not in counted.text()
    counted.ready()
    first = counted.ready_after
    counted.ready()
    counted.expires = 4e9
    assert counted.ready_after == first
    assert "istio_agent_startup_duration_seconds" in counted.text()
    assert 'istio_agent_cert_expiry_seconds{resource_name="default"} ' in counted.text()


LINES = st.lists(st.sampled_from(("envoy_istio_a 1", "# TYPE envoy_istio_a gauge", "x envoy_istio_b", "")))


@given(LINES, st.lists(st.integers(0, 60)))
async def test_renaming_does_not_depend_on_how_the_text_is_cut(lines: list[str], cuts: list[int]) -> None:
    text = "\n".join(lines).encode()
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})

    async def pieces() -> AsyncIterator[bytes]:
        for start, end in itertools.pairwise(edges):
            yield text[start:end]

    expected = "\n".join(line.replace("envoy_istio_a", "istio_a") for line in lines)
    expected += "\n" if expected and not expected.endswith("\n") else ""
    istios = series.Series({})
    found = b"".join([istios.lines(block) async for block in scrape.whole_lines(pieces())])
    assert found + istios.rest() == expected.encode()

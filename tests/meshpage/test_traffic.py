"""Traffic: what is read of metrics, what becomes of counts, what is drawn, and who is asked when."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from istiod.meshpage import graph, samples, scrape, topology, traffic
from istiod.meshpage.samples import Counted, Edge, Node, Series
from istiod.meshpage.scrape import Scraper, Target
from istiod.meshpage.server import MeshPage
from istiod.meshpage.traffic import Flow, Place, Round
from tests.meshpage import made
from tests.waiting import until

WEB, API, OUT = Node("shop", "web", "web"), Node("shop", "api-v1", "api"), Node("unknown", "unknown", "unknown")


def sample(name: str = "requests_total", value: object = 1, **labels: str) -> bytes:
    said = {
        "reporter": "source",
        "source_workload": "web",
        "source_workload_namespace": "shop",
        "source_canonical_service": "web",
        "destination_workload": "api-v1",
        "destination_workload_namespace": "shop",
        "destination_canonical_service": "api",
        "destination_service_name": "api",
        "destination_service_namespace": "shop",
        "response_code": "200",
        **labels,
    }
    inner = ",".join(f'{key}="{text}"' for key, text in said.items())
    return f"istio_{name}{{{inner}}} {value}".encode()


def counted(*lines: bytes, namespace: str = "shop") -> Counted:
    found: Counted = {}
    samples.add(found, lines, namespace)
    return found


def test_requests_failures_latencies_and_bytes_are_read() -> None:
    edge = Edge(WEB, API, "source")
    assert counted(
        b"# TYPE istio_requests_total counter",
        sample(value=3),
        sample(value=2, response_code="503"),
        sample(value=1, response_code="0"),
        sample(value=1, grpc_response_status="14"),
        sample("request_duration_milliseconds_bucket", 5, le="0.5"),
        sample("request_duration_milliseconds_bucket", 7, le="+Inf"),
        sample("tcp_sent_bytes_total", 10),
        sample("tcp_received_bytes_total", 5),
        sample("request_bytes_sum", 99),
    ) == {
        Series(edge, "requests"): 7,
        Series(edge, "errors"): 4,
        Series(edge, "within", 0.5): 5,
        Series(edge, "within", math.inf): 7,
        Series(edge, "bytes"): 15,
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"istio_requests_total 5",
        sample(value="x"),
        sample(value="NaN"),
        sample(value="-1"),
        sample("request_duration_milliseconds_bucket", 1, le="x"),
        sample(reporter="nobody"),
        sample(source_workload_namespace="other"),
        sample(reporter="destination", destination_workload_namespace="other"),
        b"istio_requests_total{\xff} 1",
    ],
)
def test_what_means_nothing_or_speaks_for_others_is_not_counted(line: bytes) -> None:
    assert counted(line) == {}


def test_sides_that_nobody_knows_are_named_by_what_was_called() -> None:
    lost = sample(destination_workload="", destination_workload_namespace="unknown", destination_canonical_service="")
    ((edge, _, _),) = counted(lost)
    assert edge.destination == Node("shop", "unknown", "api")
    assert traffic.places(edge, traffic.WORKLOADS)[1] == Place("shop", "api")
    ((edge, _, _),) = counted(sample(destination_service_name="unknown"))
    assert edge.destination.service == "api"


def test_names_are_one_printable_line_of_bounded_length_and_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    ((edge, _, _),) = counted(sample(source_workload='a\\\\b\\"' + "x" * 500 + "\x07"))
    assert edge.source.workload.startswith('a\\b"x')
    assert len(edge.source.workload) == samples.MOST_NAME
    monkeypatch.setattr(samples, "MOST", 2)
    found = counted(*(sample(source_workload=f"w{n}") for n in range(5)), sample(source_workload="w0"))
    assert sorted(found.values()) == [1, 2]


def flow(source: str, target: str, requests: float = 1, errors: float = 0, size: float = 0) -> Flow:
    a, b = Place("shop", source), Place("shop", target)
    return Flow(source=a, destination=b, requests=requests, errors=errors, bytes=size, p50=1, p99=2)


def test_rates_are_what_grew_in_the_time_and_the_callers_word_counts() -> None:
    caller, server = Edge(WEB, API, "source"), Edge(WEB, API, "destination")
    before = {Series(caller, "requests"): 100.0, Series(server, "requests"): 50.0, Series(caller, "errors"): 9.0}
    before[Series(caller, "within", 1.0)] = 3.0
    after = {
        Series(caller, "requests"): 120.0,
        Series(caller, "errors"): 2.0,
        Series(caller, "within", 1.0): 3.0,
        Series(caller, "within", 10.0): 10.0,
        Series(caller, "within", math.inf): 20.0,
        Series(server, "requests"): 60.0,
        Series(Edge(OUT, API, "destination"), "bytes"): 40.0,
    }
    grown = traffic.grown(before, after)
    assert grown[Series(caller, "errors")] == 2, "the count fell: the proxy began anew"
    rounds = [Round(seconds=4, counted=traffic.together([grown])), Round(seconds=6, counted={})]
    first, second = traffic.flows(rounds, traffic.WORKLOADS)
    assert (first.source, first.destination) == (Place("shop", "web"), Place("shop", "api-v1"))
    assert (first.requests, first.errors, first.p50, first.p99) == (2.0, 0.2, 10.0, 10.0)
    assert (second.source, second.bytes, second.p50) == (Place("", "unknown"), 4.0, None)
    assert traffic.flows(rounds, traffic.SERVICES)[0].destination == Place("shop", "api")
    assert traffic.flows([], traffic.WORKLOADS) == []


def test_a_window_that_moves_on_holds_what_its_rounds_hold() -> None:
    one, two = Series(Edge(WEB, API, "source"), "requests"), Series(Edge(API, WEB, "source"), "requests")
    total = {one: 5.0, two: 2.0}
    traffic.moved(total, {one: 1.0}, {one: 3.0, two: 2.0})
    assert total == {one: 3.0}


def test_quantiles_are_prometheus() -> None:
    assert traffic.quantile([(10.0, 50.0), (20.0, 100.0), (math.inf, 100.0)], 0.5) == 10
    assert traffic.quantile([(10.0, 50.0), (20.0, 100.0), (math.inf, 100.0)], 0.75) == 15
    assert traffic.quantile([(math.inf, 0.0)], 0.5) is None
    assert traffic.quantile([], 0.5) is None
    assert traffic.quantile([(1.0, 9.0), (2.0, 4.0)], 1) == pytest.approx(4 / 9), "counts that fall are a mistake"
    assert traffic.quantile([(1.0, 0.0), (2.0, 0.0), (math.inf, 4.0)], 0.5) == 2


def test_tones_say_how_much_fails() -> None:
    assert [flow("a", "b", 100, errors).tone for errors in (0, 1, 5)] == ["good", "warning", "error"]
    assert flow("a", "b", 0).failing == 0


def test_a_namespace_and_a_search_choose_flows() -> None:
    both = [flow("a", "b"), flow("c", "d")]
    assert traffic.chosen(both, "", "c d") == both[1:]
    assert traffic.chosen(both, "shop", "") == both
    assert traffic.chosen(both, "other", "") == []


def test_the_picture_has_the_busiest_and_some_that_are_idle() -> None:
    flows = [flow("hub", f"w{n}", 100 - n, errors=n == 0) for n in range(50)]
    quiet = [Place("shop", f"idle{n:02}") for n in range(30)] + [Place("shop", "w1"), Place("shop", "w49")]
    found = topology.picture(flows, quiet)
    assert (len(found.lines), found.left_out, found.idle) == (40, 10, 6)
    names = {box.node.name for box in found.drawing.boxes}
    assert {"hub", "w39", "idle00"} <= names
    assert names.isdisjoint({"w40", "w49", "idle29"}), "w49 has traffic: it is no idle one"
    assert found.lines[0].words == ("100/s · 1% err", "1 / 2 ms")
    assert topology.words(flow("a", "b", 0, size=2048)) == ("2.05k B/s", "TCP")


def test_namespaces_offered_are_the_largest_and_the_chosen() -> None:
    nodes = [Place(f"n{n:02}", str(m)) for n in range(20) for m in range(n)]
    found = topology.namespaces(nodes, [flow("a", "b")], "n02")
    assert found == ["n02", *(f"n{n:02}" for n in range(8, 20))]
    assert topology.namespaces([], [], "") == []


NODES = "abcdefgh"


@given(st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), max_size=24))
def test_boxes_never_overlap_and_every_edge_has_a_row_of_its_own(edges: list[tuple[str, str]]) -> None:
    found = graph.drawn(NODES, edges)
    assert {box.node for box in found.boxes} == set(NODES)
    for one in found.boxes:
        assert 0 <= one.x <= found.width - graph.WIDTH
        assert 0 <= one.y <= found.height - one.height
        for other in found.boxes:
            apart = (
                abs(one.x - other.x) >= graph.WIDTH or one.y + one.height <= other.y or other.y + other.height <= one.y
            )
            assert one is other or apart
    assert sorted(curve.edge for curve in found.curves) == [n for n, edge in enumerate(edges) if edge[0] != edge[1]]
    labels = sorted((curve.x, curve.y) for curve in found.curves)
    for (x, y), (other_x, other_y) in itertools.pairwise(labels):
        assert x != other_x or other_y - y >= graph.ROW


def test_a_chain_goes_from_left_to_right_and_a_cycle_back() -> None:
    found = graph.drawn("abc", [("a", "b"), ("b", "c"), ("c", "a")])
    xs = {box.node: box.x for box in found.boxes}
    assert xs["a"] < xs["b"] < xs["c"]
    assert [curve.edge for curve in found.curves if curve.backwards] == [2]
    assert graph.drawn("", []).boxes == ()


class Proxy:
    """A proxy's metrics port that says what it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.status = 200
        self.asked = 0
        self.more = b""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        self.count += 10
        return web.Response(status=self.status, body=sample(value=self.count) + b"\n" + self.more)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[Proxy, Target]]:
    proxy = Proxy()
    app = web.Application()
    app.router.add_get("/stats/prometheus", proxy.answer)
    async with TestServer(app) as server:
        yield proxy, Target(name="web-1.shop", namespace="shop", address=f"127.0.0.1:{server.port}")


async def looked(scraper: Scraper, rounds: int) -> scrape.Seen:
    await until(lambda: len(scraper.look().rounds) >= rounds, "so many rounds")
    return scraper.look()


async def test_proxies_are_asked_while_somebody_looks_and_no_longer(served: tuple[Proxy, Target]) -> None:
    proxy, target = served
    dead = Target(name="dead-1.shop", namespace="shop", address="127.0.0.1:1")
    clock = asyncio.get_running_loop().time
    scraper = Scraper(lambda: [target, dead], clock, period=0.01, patience=0.2)
    await asyncio.sleep(0.05)
    assert proxy.asked == 0, "nobody looked yet"
    seen = await looked(scraper, 2)
    assert (seen.asked, seen.connected, seen.failed) == (2, 2, ("dead-1.shop",))
    assert seen.rounds[0].counted == {Series(Edge(WEB, API, "source"), "requests"): 10.0}
    await until(lambda: scraper._task is not None and scraper._task.done(), "nobody is asked")
    assert scraper.look().rounds == (), "what is old is forgotten"
    await scraper.close()
    await Scraper(tuple, clock).close()


async def test_a_proxy_that_fails_or_floods_costs_no_more_than_its_own_figures(
    served: tuple[Proxy, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, target = served
    monkeypatch.setattr(scrape, "MOST_BYTES", 100_000)
    monkeypatch.setattr(scrape, "MOST_PROXIES", 1)
    proxy.more = b"x" * 10_000_000
    other = Target(name="zzz-1.shop", namespace="shop", address="127.0.0.1:1")
    scraper = Scraper(lambda: [other, target], asyncio.get_running_loop().time, period=0.01)
    seen = await looked(scraper, 1)
    assert (seen.asked, seen.connected, seen.failed) == (1, 2, ())
    assert seen.rounds[0].counted
    monkeypatch.setattr(scrape, "WINDOW", 1)
    seen = await looked(scraper, len(seen.rounds) + 1)
    assert seen.total.counted
    proxy.status = 500
    await until(lambda: bool(scraper.look().failed), "it is said")
    await scraper.close()


def of(targets: Sequence[Target], page: MeshPage) -> MeshPage:
    """A page whose proxies have their metrics elsewhere than on port 15090, and tell them at once."""
    page._scraper = Scraper(lambda: targets, asyncio.get_running_loop().time, period=0.05)
    return page


async def test_the_page_shows_the_figures(served: tuple[Proxy, Target]) -> None:
    shop = made.shop()
    app = web.Application()
    page = of([served[1]], MeshPage(shop.sources()))
    page.extend(app)
    async with TestClient(TestServer(app)) as client:
        first = await (await client.get("/debug/page/traffic")).text()
        assert "measuring" in first
        assert ">api-1<" in first, "an idle workload is there from the start"
        await until(lambda: bool(page._scraper.look().rounds), "a round")
        text = await (await client.get("/debug/page/traffic")).text()
        assert "1 of 1 proxies counted it" in text
        assert "api-v1" in text
        for query, shown in (
            ("by=services", ">web<"),
            ("namespace=shop", "api-v1"),
            ("q=zzz", "Nothing fits the search"),
            ("by=services&q=edge", "Nothing fits"),
        ):
            assert shown in await (await client.get(f"/debug/page/traffic?{query}")).text()
        assert (await client.get("/debug/page/traffic?by=pods")).status == 400


async def test_a_mesh_without_anything_says_so() -> None:
    app = web.Application()
    MeshPage(made.mesh(built=False).sources()).extend(app)
    async with TestClient(TestServer(app)) as client:
        assert "No workload of the mesh is known yet" in await (await client.get("/debug/page/traffic")).text()


def test_proxies_are_asked_where_their_connections_come_from_and_speak_for_what_they_proved() -> None:
    shop = made.shop()
    assert shop.sources().targets()[0] == Target(name="web-1.shop", namespace="shop", address="10.244.0.1:15090")
    six = made.proxy("six-1.shop", "fd00::1")
    shop.proxies = [made.status(type(six)(peer=type(six.peer)(address="[fd00::1]:1", identity=None), node=six.node))]
    assert shop.sources().targets()[0].address == "[fd00::1]:15090"

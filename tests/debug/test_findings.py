from __future__ import annotations

import time

from aiohttp.test_utils import TestClient, TestServer

from crds.diagnostic import Code, Position, error, warning
from crds.key import ConfigKey
from istiod.debug import server
from istiod.debug.findings import MOST_LINES, Findings
from istiod.supervision import Lines
from wire import names

KEY = ConfigKey("networking.istio.io", "VirtualService", "default", "reviews")


def where(key: ConfigKey, field: str) -> Position | None:
    return Position(file="rules.yaml", line=7) if key == KEY and field else None


def test_a_finding_is_said_once_per_change_with_its_line() -> None:
    said: list[str] = []
    findings = Findings(where, said.append)
    bad = error(Code.UNKNOWN_SUBSET, KEY, "spec.http[0]", "no subset v9")
    findings.replace("mesh", (bad, bad))
    findings.replace("mesh", (bad,))
    assert said == ["rules.yaml:7 M0102 VirtualService/default/reviews spec.http[0]: no subset v9"]
    findings.replace("mesh", ())
    assert findings.current() == ()
    findings.replace("mesh", (bad,))
    assert len(said) == 2


def test_findings_that_did_not_change_are_not_placed_again() -> None:
    asked: list[ConfigKey] = []

    def locate(key: ConfigKey, field: str) -> Position | None:
        asked.append(key)
        return where(key, field)

    findings = Findings(locate, lambda _: None)
    found = (error(Code.UNKNOWN_SUBSET, KEY, "spec.http[0]", "no subset v9"),)
    findings.replace("mesh", found)
    findings.replace("mesh", found)
    assert asked == [KEY]


def test_a_finding_without_a_place_stays_as_it_is() -> None:
    said: list[str] = []
    findings = Findings(where, said.append)
    findings.replace("source", (warning(Code.UNREADABLE, None, "", "no YAML"), error(Code.BAD_VALUE, KEY, "", "bad")))
    assert said == ["M0001 - -: no YAML", "M0005 VirtualService/default/reviews -: bad"]


async def test_pages_show_readiness_and_findings() -> None:
    state = {"ready": False}
    findings = Findings(where, lambda _: None)
    findings.replace(
        "mesh", (error(Code.UNKNOWN_SUBSET, KEY, "spec.http[0]", "no subset v9"), error(Code.UNREADABLE, None, "", "x"))
    )
    sources = server.Sources(
        waiting=lambda: () if state["ready"] else ("pods: being listed",),
        findings=findings.current,
        syncz=lambda: [{"proxy": "a"}],
        configz=list,
        config_dump=lambda name: {"configs": []} if name == "web.shop" else None,
        edsz=lambda _: None,
        registryz=list,
        adsz=lambda: [{"connectionId": "1", "address": "a", "labels": {}}],
        mesh=dict,
        metrics=lambda: "up 1\n",
        watches=lambda: [{"kind": "pods"}],
    )
    async with TestClient(TestServer(server.application(sources))) as client:
        early = await client.get("/ready")
        assert (early.status, await early.text()) == (503, "waiting for pods: being listed\n")
        state["ready"] = True
        assert (await client.get("/ready")).status == 200
        assert await (await client.get("/debug/watchz")).json() == [{"kind": "pods"}]
        listed = await (await client.get("/debug/diagnosticsz")).json()
        assert {"code": "M0102", "file": "rules.yaml", "line": 7}.items() <= listed[1].items()
        assert listed[0]["object"] is None
        assert await (await client.get("/debug/syncz")).json() == [{"proxy": "a"}]
        assert await (await client.get("/debug/configz")).json() == []
        assert (await client.get("/debug/config_dump")).status == 400
        assert (await client.get("/debug/config_dump?proxyID=x.y")).status == 404
        for page in ("/debug/config_dump?proxyID=web.shop&types=cds", "/debug/syncz?namespace=shop"):
            assert (await client.get(page)).status == 400
        assert await (await client.get("/debug/config_dump?proxyID=web.shop")).json() == {"configs": []}
        brief = {"totalClients": 1, "clients": [{"connectionId": "1", "address": "a"}]}
        assert await (await client.get("/debug/connections")).json() == brief
        assert await (await client.get("/metrics")).text() == "up 1\n"
        assert await (await client.get("/version")).text() == f"{names.VERSION}\n"
        assert "syncz" in await (await client.get("/debug/list")).json()


def test_an_object_that_is_wrong_at_thousands_of_places_is_a_few_lines_and_little_work() -> None:
    said: list[str] = []
    now = 0.0
    findings = Findings(lambda *_: None, Lines(said.append, lambda: now).say)
    other = error(Code.UNKNOWN_SUBSET, KEY, "spec", "one more")
    large = ConfigKey(KEY.group, KEY.kind, KEY.namespace, "large")
    many = tuple(error(Code.UNKNOWN_SUBSET, large, f"spec.http[{i}]", "no subset v9") for i in range(20_000))
    began = time.process_time()
    findings.replace("mesh", (*many, other))
    assert time.process_time() - began < 5  # 20 s where each line looks at all lines before it
    assert len(said) == MOST_LINES + 2
    assert said[-2:] == [str(other), f"{large}: {20_000 - MOST_LINES} more findings, see /debug/diagnosticsz"]
    assert len(findings.current()) == 20_001

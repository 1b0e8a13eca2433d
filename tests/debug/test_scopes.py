"""What istiod logs, by scope: the flag, the pages, and who may change it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from istiod import __main__ as program
from istiod.debug import guard, scopes
from istiod.supervision import SettingsError
from tests.debug.test_pages import Verifier

STREAMS = logging.getLogger("istiod.ads.connection")
CA = logging.getLogger("istiod.ca.server")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = {each.name: each.level for each in ours()}
    yield
    scopes.reset()
    for each in ours():
        each.setLevel(before.get(each.name, logging.NOTSET))


def ours() -> list[logging.Logger]:
    """istiod's loggers so far."""
    held = [each for name, each in logging.root.manager.loggerDict.items() if name.partition(".")[0] == "istiod"]
    return [each for each in held if isinstance(each, logging.Logger)]


def pages() -> web.Application:
    app = web.Application()
    scopes.extend(app)
    return app


async def test_a_scope_is_changed_shown_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    scopes.begin("default:info")
    async with TestClient(TestServer(pages())) as client:
        listed = {each["name"]: each for each in await (await client.get("/debug/scopej")).json()}
        assert {"default", "ads", "ca", "aiohttp", "asyncio"} <= listed.keys()
        assert listed["ads"]["description"].startswith("Serving xDS")
        assert (listed["ads"]["output_level"], listed["ads"]["stack_trace_level"]) == ("info", "none")
        STREAMS.debug("not yet")

        changed = await client.put("/debug/scopej/ads", json={"output_level": "debug", "stack_trace_level": "error"})
        assert (await changed.json())["output_level"] == "debug"
        assert (await (await client.get("/debug/scopej/ads")).json())["stack_trace_level"] == "error"
        assert (await (await client.get("/debug/scopej/ca")).json())["output_level"] == "info"
        STREAMS.debug("seen")
        CA.debug("nor this")
        STREAMS.error("with its stack")

        await client.delete("/debug/scopej")
        STREAMS.debug("no longer")
        STREAMS.error("without a stack")
    said = {each.getMessage(): each.stack_info or "" for each in caplog.records if each.name.startswith("istiod.")}
    assert said.keys() == {"seen", "with its stack", "without a stack"}
    assert not said["seen"]
    assert "test_a_scope_is_changed_shown_and_comes_back" in said["with its stack"].splitlines()[-2]
    assert not said["without a stack"]


async def test_default_is_for_all_that_has_no_level_of_its_own() -> None:
    library = logging.getLogger("aiohttp.access")
    before = library.getEffectiveLevel()
    scopes.begin("default:warn,ads:error")
    assert not STREAMS.isEnabledFor(logging.WARNING)
    assert scopes.change("default", {"output_level": "debug"})["output_level"] == "debug"
    assert CA.isEnabledFor(logging.DEBUG)
    assert not STREAMS.isEnabledFor(logging.WARNING), "the flag names it"
    assert library.getEffectiveLevel() == before, "libraries are no part of istiod"
    scopes.change("ca", {"output_level": "none"})
    assert not CA.isEnabledFor(logging.CRITICAL)
    scopes.reset()
    assert CA.isEnabledFor(logging.WARNING)


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("ads", '{"output_level": "loud"}', 400, "a level is one of none, fatal, error, warn, info, debug"),
        ("ads", '{"output_level": 3}', 400, "3: a level is one of"),
        ("ads", '{"level": "debug"}', 400, "output_level or stack_trace_level is needed"),
        ("ads", '{"output_level": "debug", "log_callers": true}', 400, "callers are not logged"),
        ("ads", "[]", 400, "is needed"),
        ("ads", "[" * 9_000, 400, "no JSON"),
        ("absent", '{"output_level": "debug"}', 400, "there is no scope 'absent'"),
    ],
)
async def test_what_is_no_level_changes_nothing(path: str, body: str, status: int, reason: str) -> None:
    async with TestClient(TestServer(pages())) as client:
        before = await (await client.get("/debug/scopej")).json()
        answer = await client.put(f"/debug/scopej/{path}", data=body)
        assert (answer.status, reason in await answer.text()) == (status, True)
        assert await (await client.get("/debug/scopej")).json() == before
        assert (await client.get("/debug/scopej/absent")).status == 404


@pytest.mark.parametrize(
    ("token", "read", "changed"), [("", 401, 401), ("stranger", 401, 401), ("shop", 403, 403), ("root", 200, 403)]
)
async def test_only_loopback_changes_levels(token: str, read: int, changed: int) -> None:
    """Row SEC9 of the hostile inputs."""

    @web.middleware
    async def from_afar(request: web.Request, handler: guard.Handler) -> web.StreamResponse:
        return await handler(request.clone(remote="10.244.0.7"))

    app = web.Application(middlewares=[from_afar, guard.middleware(Verifier, "mesh-root")])
    scopes.extend(app)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/debug/scopej", headers=headers)).status == read
        put = await client.put("/debug/scopej/ads", json={"output_level": "debug"}, headers=headers)
        assert (put.status, (await client.delete("/debug/scopej", headers=headers)).status) == (changed, changed)
    assert not STREAMS.isEnabledFor(logging.DEBUG)


def test_the_flag_is_read_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    program.log("ca:debug,delta:debug,all:error")
    assert "there is no scope 'delta' here" in capsys.readouterr().err
    assert CA.isEnabledFor(logging.DEBUG)
    assert not STREAMS.isEnabledFor(logging.WARNING)
    assert scopes.begin(".x:debug,no such:debug") == (".x", "no such")
    with pytest.raises(SettingsError, match="--log_output_level loud: 'loud': a level is one of"):
        program.log("loud")

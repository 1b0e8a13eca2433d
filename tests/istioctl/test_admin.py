"""``admin log`` against the pages of scopes that istiod serves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from istioctl import __main__ as program
from istioctl import admin
from istiod.debug import scopes
from tests.istioctl.test_control_plane import istiod

CA, STREAMS = map(logging.getLogger, ("istiod.ca.server", "istiod.ads.connection"))


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    scopes.reset()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    app = web.Application()
    scopes.extend(app)
    async with TestServer(app) as served:
        yield f"{served.host}:{served.port}"


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(program.main, ["admin", "log", *arguments])


def levels(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[-2:] for line in text.splitlines()[1:]}


async def test_levels_are_shown_changed_and_reset(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--monitoring-address", address)
    assert await run(*where) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["ACTIVE", "SCOPE", "DESCRIPTION", "LOG", "LEVEL", "STACK", "TRACES"]
    before = levels(said)

    assert await run("--level", "ca:debug,error", "--stack-trace-level", "ads:warn", *where) == 0
    after = levels(capsys.readouterr().out)
    assert (after["default"], after["ca"], after["ads"]) == (["error", "none"], ["debug", "none"], ["error", "warn"])
    assert CA.isEnabledFor(logging.DEBUG)
    assert not STREAMS.isEnabledFor(logging.WARNING)

    assert await run("--reset", "-o", "json", *where) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert [found["ca"]["output_level"], found["ca"]["stack_trace_level"]] == before["ca"]
    assert not CA.isEnabledFor(logging.DEBUG)

    with istiod({"/debug/scopej": []}) as other:
        assert await run(*where, "--monitoring-address", other) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{address}:\nACTIVE SCOPE")
    assert f"\n{other}:\nACTIVE SCOPE" in said


async def test_mistakes_are_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--monitoring-address", address)
    assert await run("--level", "ca:loud", *where) == 1
    assert "'ca:loud': a level is one of none, " in capsys.readouterr().err
    assert await run("--level", "absent:debug", *where) == 1
    assert "there is no scope 'absent'" in capsys.readouterr().err
    with istiod({"/debug/scopej": [3]}) as odd:
        assert await run("--monitoring-address", odd) == 1
    assert "is not what istiod says" in capsys.readouterr().err


def test_the_command_names_the_levels_that_istiod_has() -> None:
    assert tuple(scopes.LEVELS) == admin.LEVELS

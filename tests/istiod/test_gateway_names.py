"""DNS names of gateways of networks are looked up: at once, again and again, and what was known stays."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from istiod import app, gateway_names
from istiod.gateway_names import AGAIN, GatewayNames
from istiod.mesh.context import view
from tests.istiod.test_app import finding, free_address, ready, with_keys
from tests.mesh import fleet
from tests.waiting import until

KEY = ConfigKey("", "ConfigMap", "istio-system", "istio")
WISHES = {"gw.example": ((KEY, "data.meshNetworks.networks[n2].gateways[0].address"),)}
DEADLINE = 20


class Names:
    """Answers look-ups, keeps what was put, and moves its own clock."""

    def __init__(self) -> None:
        self.answer: tuple[str, ...] | OSError = ("192.0.2.1",)
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.kept: dict[str, tuple[str, ...]] = {}
        self.found: tuple[Diagnostic, ...] = ()
        self.now = 0.0
        self.names = GatewayNames(self.put, self.report, lambda: self.now, self.look)

    async def look(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        await self.gate.wait()
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def put(self, name: str, addresses: tuple[str, ...] | None) -> None:
        self.kept.pop(name, None)
        if addresses is not None:
            self.kept[name] = addresses

    def report(self, found: tuple[Diagnostic, ...]) -> None:
        self.found = found

    async def asked_after(self, seconds: float) -> None:
        """Let time pass, and wait for the question that follows."""
        asked = len(self.asked)
        self.now += seconds
        self.names._rounds.wake()
        await until(lambda: len(self.asked) > asked, "asked again", DEADLINE)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Names]:
    names = Names()
    task = asyncio.create_task(names.names.run())
    try:
        yield names
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_name_is_looked_up_at_once_and_again_and_forgotten_with_who_says_it() -> None:
    async with running() as names:
        names.names.want(WISHES)
        await names.names.settled(DEADLINE)
        assert names.kept == {"gw.example": ("192.0.2.1",)}
        names.names.want(dict(WISHES))
        names.answer = ("192.0.2.2", "192.0.2.3")
        await names.asked_after(AGAIN * 1.25)
        await until(lambda: names.kept == {"gw.example": ("192.0.2.2", "192.0.2.3")}, "the new addresses", DEADLINE)
        assert (names.asked, names.found) == (["gw.example"] * 2, ())
        names.names.want({})
        assert names.kept == {}


async def test_what_cannot_be_looked_up_is_told_and_keeps_what_it_had() -> None:
    async with running() as names:
        names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        names.names.want(WISHES)
        await names.names.settled(DEADLINE)
        assert names.kept == {}
        (found,) = names.found
        assert (found.code.name, found.key, found.field) == ("UNRESOLVED_GATEWAY", *WISHES["gw.example"][0])
        assert "Name or service not known; nobody is reached through it" in found.message
        names.answer = ("192.0.2.1",)
        await names.asked_after(gateway_names.FIRST_PAUSE * 1.25)
        await until(lambda: names.found == () and bool(names.kept), "it is there", DEADLINE)
        names.answer = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        await names.asked_after(AGAIN * 1.25)
        await until(lambda: bool(names.found), "it is told", DEADLINE)
        assert names.found[0].message.endswith("; its last addresses serve")
        assert names.kept == {"gw.example": ("192.0.2.1",)}


async def test_few_are_looked_up_together_however_long_they_take() -> None:
    async with running() as names:
        names.gate.clear()
        names.names.want({f"{number}.example": ((KEY, "a"),) for number in range(5)})
        await until(lambda: len(names.asked) == gateway_names.AT_ONCE, "the first ones", DEADLINE)
        await names.names.settled(0.01)
        assert names.kept == {}
        names.gate.set()
        await names.names.settled(DEADLINE)
        assert sorted(names.kept) == sorted(names.asked) == [f"{number}.example" for number in range(5)]


async def test_a_whole_istiod_knows_the_addresses_when_it_begins_to_serve(tmp_path: Path) -> None:
    """Of a name that cannot be looked up it says so, and serves all the same."""
    settings = with_keys(tmp_path, grpc_address=free_address())
    doors = "gateways: [{address: localhost, port: 7}, {address: nobody.invalid}]"
    text = fleet.dump(
        "v1", "ConfigMap", "istio", "istio-system", data={"meshNetworks": f"networks: {{n2: {{{doors}}}}}"}
    )
    (tmp_path / "config" / "mesh.yaml").write_text(text)
    plane, stop = app.ControlPlane(settings), asyncio.Event()
    running = asyncio.create_task(plane.run(stop))
    url = f"http://{settings.monitoring_address}"
    async with aiohttp.ClientSession() as session:
        await until(lambda: ready(session, url), "it serves", 60)
        assert plane._pipeline.context is not None
        ((network, found),) = view(plane._pipeline.context, fleet.proxy()).gateways
        assert network == "n2"
        assert ("127.0.0.1", 7) in found
        (told,) = await finding(session, url, "M0146")
        assert (told["object"], told["field"]) == (
            "ConfigMap/istio-system/istio",
            "data.meshNetworks.networks[n2].gateways[1].address",
        )
    stop.set()
    await asyncio.wait_for(running, 30)


async def test_the_machines_own_resolver_is_asked() -> None:
    """Addresses of one link are nobody's gateway."""
    assert "127.0.0.1" in await gateway_names.look_up("localhost")
    with pytest.raises(socket.gaierror):
        await gateway_names.look_up("nobody.invalid")
    for name in ("169.254.1.1", "fe80::1"):
        with pytest.raises(OSError, match="of one link"):
            await gateway_names.look_up(name)

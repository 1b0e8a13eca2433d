"""istiod's name stops resolving in a pod: what it stood for is used on (fault FT31)."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from agent.sds import addresses, identity
from agent.sds.addresses import Addresses
from tests.agent import pod
from wire.spiffe import Identity

SLEEP = Identity("cluster.local", "default", "sleep")


class Names:
    """A resolver that a test breaks."""

    def __init__(self, *found: str) -> None:
        self.found = found
        self.error: OSError | None = None
        self.silent = threading.Event()
        self.silent.set()

    def look_up(self, host: str) -> tuple[str, ...]:
        self.silent.wait(10)
        if self.error is not None:
            raise self.error
        assert host == "istiod.test"
        return self.found


async def test_certificates_come_while_the_name_of_the_ca_cannot_be_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(addresses, "SECONDS", 0.2)
    names = Names("127.0.0.1", "::1")
    async with pod.istiod() as control:
        pod.write_token(tmp_path / "token", control)
        pod.write(tmp_path / "roots", control.ca.roots)

        def client(known: Addresses) -> identity.CaClient:
            return identity.CaClient(
                address=f"istiod.test:{control.ca_port}",
                server_name="istiod.istio-system.svc",
                token=tmp_path / "token",
                roots=identity.Roots(tmp_path / "roots"),
                addresses=known,
            )

        kept = Addresses(names.look_up)
        await identity.obtain(client(kept).sign, SLEEP)
        names.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        await identity.obtain(client(kept).sign, SLEEP)
        assert "its addresses before are used: [Errno -2] Name or service not known" in caplog.text
        with pytest.raises(identity.IdentityError, match=r"cannot look up istiod\.test"):
            await identity.obtain(client(Addresses(names.look_up)).sign, SLEEP)
        names.silent.clear()
        began = time.monotonic()
        await identity.obtain(client(kept).sign, SLEEP)
        assert time.monotonic() - began < 5, "a silent name server is not waited for"
        names.silent.set()
        assert len(control.tokens) == 3


async def test_what_the_name_stands_for_now_counts() -> None:
    names = Names("10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.1")
    known = Addresses(names.look_up)
    assert await known.target("istiod.test:15012") == "ipv4:10.0.0.1:15012,10.0.0.2:15012"
    names.found = ("fd00::1",)
    assert await known.target("istiod.test:15012") == "ipv6:[fd00::1]:15012"
    assert await known.target("10.9.9.9:15012") == "10.9.9.9:15012"
    assert await known.target("[fd00::9]:15012") == "[fd00::9]:15012"


async def test_names_are_looked_up_by_the_machines_own_resolver() -> None:
    target = await Addresses().target("localhost:1")
    assert "127.0.0.1:1" in target or "[::1]:1" in target

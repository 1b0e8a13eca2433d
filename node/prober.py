"""Asks probes' questions, and runs the probes of one container. What answers mean is in node.probes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from node.network import Inside
from node.probes import Action, HttpGet, Probe, TcpSocket, Verdict

_EAGER = 0.2  # seconds between questions to a container that has not answered well yet
_OK = range(200, 400)

Ask = Callable[[Action], Awaitable[bool]]


def _insecure() -> ssl.SSLContext:
    """TLS without verification, as kubelet probes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _get(inside: Inside, address: str, action: HttpGet) -> bool:
    """One GET over a connection of its own."""
    host = action.host or address
    connection = await inside.connect(host, action.port)
    context = _insecure() if action.scheme == "HTTPS" else None
    try:
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname=host if context else None
        )
    except BaseException:
        connection.close()
        raise
    try:
        headers = {"Host": f"{host}:{action.port}", "User-Agent": "kube-probe/1.0", "Connection": "close"}
        headers |= dict(action.headers)
        lines = [f"GET {action.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = (await reader.readline()).split()
        return len(status) > 1 and status[1].isdigit() and int(status[1]) in _OK
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(inside: Inside, address: str, action: Action) -> bool:
    """Whether the answer from the network is good. Commands are asked by the container itself.

    Raises:
        OSError: nobody answers.
    """
    if isinstance(action, HttpGet):
        return await _get(inside, address, action)
    if isinstance(action, TcpSocket):
        (await inside.connect(action.host or address, action.port)).close()
        return True
    raise TypeError(f"{type(action).__name__} is not asked over the network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The probes of a container."""

    startup: Probe | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None


async def answer(question: Ask, probe: Probe) -> bool:
    """One answer; silence and refusal are no."""
    try:
        async with asyncio.timeout(probe.timeout):
            return await question(probe.action)
    except (OSError, TimeoutError):
        return False


async def started(question: Ask, probe: Probe) -> bool:
    """Wait until the startup probe succeeds; False once its failures have used up their time."""
    await asyncio.sleep(probe.initial_delay)
    loop = asyncio.get_running_loop()
    end = loop.time() + probe.period * probe.failure_threshold
    verdict = Verdict(value=False)
    while loop.time() < end:
        verdict = verdict.after(await answer(question, probe), probe)
        if verdict.value:
            return True
        await asyncio.sleep(min(probe.period, _EAGER))
    return False


async def readiness(question: Ask, probe: Probe, tell: Callable[[bool], None]) -> None:
    """Tell each change of readiness, for ever. One that is not ready is asked more often than its period says."""
    await asyncio.sleep(probe.initial_delay)
    verdict = Verdict(value=False)
    while True:
        after = verdict.after(await answer(question, probe), probe)
        if after.value != verdict.value:
            tell(after.value)
        verdict = after
        await asyncio.sleep(probe.period if verdict.value else min(probe.period, _EAGER))


async def alive(question: Ask, probe: Probe) -> None:
    """Return when the liveness probe has failed often enough."""
    await asyncio.sleep(probe.initial_delay)
    verdict = Verdict(value=True)
    while True:
        verdict = verdict.after(await answer(question, probe), probe)
        if not verdict.value:
            return
        await asyncio.sleep(probe.period)

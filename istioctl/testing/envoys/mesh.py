"""The local mesh as a program: ``meshnode`` brings it up, runs commands in its pods, and removes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from istioctl.errors import CommandError
from istioctl.testing.envoys.probe import Asked

_ROOT: Final = str(pathlib.Path(__file__).resolve().parents[3])
_FOLDER: Final = pathlib.Path("/run/meshnode")
_LONGEST: Final = 32 << 20
_UP: Final = " is up"
_PATIENCE: Final = 180.0
_SETTLING: Final = 60
_ENDING: Final = 60.0
_ISTIOD: Final = "istio-system/istiod"


class Mesh:
    """A mesh that is up."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._control = str(folder / "control")

    async def settled(self, proxies: int) -> None:
        """Wait until so many proxies know all pods.

        Raises:
            CommandError: not in time.
        """
        words = ("python", "-m", "istioctl.testing.envoys.settled", str(proxies), str(_SETTLING))
        code, said = await self._exec(_ISTIOD, words)
        if code:
            raise CommandError(
                f"not all of {proxies} proxies had their configuration within {_SETTLING} s: {said.strip()}"
            )

    async def ask(self, pod: str, requests: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Send requests (of ``Asked``) from a pod.

        Raises:
            CommandError: the pod cannot send.
        """
        module = Asked.__module__
        code, said = await self._exec(pod, ("python", "-m", module, json.dumps(list(requests))))
        if code:
            raise CommandError(f"the client in pod {pod} failed: {said.strip()[-500:]}")
        found: list[list[dict[str, Any]]] = json.loads(said)
        return found

    async def log(self, pod: str) -> str:
        """What a pod's proxy has logged so far."""
        return str(await self._told(command="logs", pod=pod, container="istio-proxy"))

    async def _exec(self, pod: str, words: Sequence[str]) -> tuple[int, str]:
        """Run a command in a pod: exit code, and what it said (if it failed, also on standard error)."""
        code, out, err = await self._told(command="exec", pod=pod, container="", argv=list(words))
        return code, out + err if code else out

    async def _told(self, **request: object) -> Any:
        """Ask the running mesh itself, as ``meshnode exec`` does: a program for each question would cost seconds."""
        reader, writer = await asyncio.open_unix_connection(self._control, limit=_LONGEST)
        with contextlib.closing(writer):
            writer.write(json.dumps(request).encode() + b"\n")
            answer = json.loads(await reader.readline())
        if "error" in answer:
            raise CommandError(f"the local mesh: {answer['error']}")
        return answer["result"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))}


@contextlib.asynccontextmanager
async def running(file: pathlib.Path) -> AsyncIterator[Mesh]:
    """The mesh of a file, from its start to its end.

    Raises:
        CommandError: it does not come up, as where there is no root.
    """
    name = f"test-{os.getpid()}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "node", "--root", str(_FOLDER), "--name", name, "up", "--no-gateway", "-f", str(file)),
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    reader = None
    try:
        async with asyncio.timeout(_PATIENCE):
            said = await _said(process, name)
        if not said[-1].startswith(f"mesh {name}{_UP}"):
            raise CommandError("the local mesh does not come up: " + "\n".join(said[-12:]))
        reader = asyncio.create_task(_drain(process))
        yield Mesh(_FOLDER / name)
    except TimeoutError as error:
        raise CommandError(f"the local mesh is not up within {_PATIENCE:.0f} s") from error
    finally:
        await _end(process)
        if reader is not None:
            await reader


async def _said(process: asyncio.subprocess.Process, name: str) -> list[str]:
    """What the program says until it is up, or ends, or gives up."""
    found = ["it said nothing"]
    stream = process.stdout
    while stream is not None and (line := await stream.readline()):
        found.append(line.decode(errors="replace").rstrip())
        if found[-1].startswith((f"mesh {name}{_UP}", f"mesh {name} keeps")):
            break
    return found


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read on, or the program would wait for a reader."""
    while process.stdout is not None and await process.stdout.readline():
        pass


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()

"""The Envoy process: started, its log passed on, started again after a crash, stopped (features rows C1, S64).

Draining before the stop is app's part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

_LOG: Final = logging.getLogger("envoy")
_BACK_OFF: Final = (0.2, 10.0)
_STABLE_SECONDS: Final = 30.0
_MAX_CRASHES: Final = 10
_STOP_SECONDS: Final = 5.0
_PIPE_BYTES: Final = 65_536


class ProxyError(Exception):
    """Envoy cannot be started, or crashes again and again."""


class Proxy:
    """Supervises one Envoy."""

    def __init__(
        self, command: Sequence[str], on_start: Callable[[], None], variables: Mapping[str, str] | None = None
    ) -> None:
        """Run this command, with more ``variables``; ``on_start`` is told each start."""
        self._variables = dict(variables or {})
        self.command = tuple(command)
        """What is run: it may be replaced before ``run``."""
        self._on_start = on_start
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process id of the running Envoy."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> int:
        """Run Envoy until it ends of its own will or ``stop`` ends it; gives its exit code.

        Raises:
            ProxyError: the binary cannot be executed, or Envoy crashed too often in a row.
        """
        loop = asyncio.get_running_loop()
        crashes = 0
        while True:
            started = loop.time()
            code = await self._once()
            if code == 0 or self._stopping.is_set():
                return _exit_code(code)
            crashes = 1 if loop.time() - started > _STABLE_SECONDS else crashes + 1
            if crashes > _MAX_CRASHES:
                raise ProxyError(f"Envoy ended {crashes} times in a row, last with {_told(code)}")
            delay = min(_BACK_OFF[0] * 2.0 ** (crashes - 1), _BACK_OFF[1])
            _LOG.error("Envoy ended with %s; next start in %.1f s", _told(code), delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return _exit_code(code)

    async def stop(self) -> None:
        """End Envoy: SIGTERM, and SIGKILL if it does not heed that."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            _LOG.warning("Envoy did not end within %.0f s and is killed", _STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _once(self) -> int:
        piped = not _reopenable(pathlib.Path("/dev/stdout"))
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else None,
                env=os.environ | self._variables,
            )
        except OSError as error:
            raise ProxyError(f"cannot run {self.command[0]}: {error}") from error
        self._process = process
        self._on_start()
        if self._stopping.is_set():
            process.terminate()
        if process.stdout:
            await _forward(process.stdout)
        return await process.wait()


def _reopenable(path: pathlib.Path) -> bool:
    """Whether Envoy, as the same user, can open its stdout by name, as its access log does.

    It cannot where stdout is another user's file or pipe; then the agent's own pipe comes between.
    """
    try:
        path.open("ab").close()
    except OSError:
        return False
    return True


async def _forward(stream: asyncio.StreamReader) -> None:
    while chunk := await stream.read(_PIPE_BYTES):
        with contextlib.suppress(OSError):  # a closed stdout must not end the proxy
            os.write(sys.stdout.fileno(), chunk)


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _exit_code(code: int) -> int:
    """As a shell gives it: 128 plus the signal's number."""
    return code if code >= 0 else 128 - code

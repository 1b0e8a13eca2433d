"""A process beside the event loop for bodies that take long to read: one at a time, started when first needed.

Parsing and checking hold Python's lock for as long as they take (a dense body of 6 MiB: half a second), so a thread
would not help: proxies would wait for their configuration. It is a program of its own rather than one of
multiprocessing's, which would load all of istiod once more.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple, cast

from webhook.calls import LENGTH

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

MOST_WAITING: Final = 16
"""Calls that may wait for the process; each holds its body in memory."""
SECONDS: Final = 9.0
"""How long a call may take: an API server asks with at most 10 s, unless told otherwise."""
IDLE_SECONDS: Final = 300.0
_PROGRAM: Final = "webhook.calls"


class BusyError(Exception):
    """The process has more to do than it can in time."""


class Worker:
    """Calls pure functions in the other process. ``close`` ends it."""

    def __init__(self, seconds: float = SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._waiting = 0
        self._one = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._ended: set[asyncio.Task[None]] = set()

    @property
    def runs(self) -> bool:
        """Whether the process is there, or has yet to end."""
        return self._process is not None or bool(self._ended)

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """The function's result; it and its arguments must be such as pickle can send.

        Raises:
            BusyError: too many wait, it took too long, or the process died of it.
            Exception: whatever the function raises.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError("too many large bodies at once")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds), self._one:
                answered, value = await self._call(pickle.dumps((function, args)))
        except TimeoutError as error:
            raise BusyError("a large body took too long") from error
        finally:
            self._waiting -= 1
            self._end_when_idle()
        if not answered:
            raise cast("Exception", value)
        return cast("T", value)

    async def close(self) -> None:
        """End the process, and wait until it has ended; a later call starts another."""
        self._kill()
        await asyncio.gather(*self._ended)

    def _kill(self) -> None:
        process, self._process = self._process, None
        if self._ending is not None:
            self._ending.cancel()
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        reaping = asyncio.create_task(_reap(process))
        self._ended.add(reaping)
        reaping.add_done_callback(self._ended.discard)

    async def _call(self, message: bytes) -> tuple[bool, object]:
        process = await self._started()
        requests, answers = process.stdin, process.stdout
        if requests is None or answers is None:
            raise BusyError("the process has no pipes")
        whole = False
        try:
            requests.write(LENGTH.pack(len(message)) + message)
            await requests.drain()
            head = await answers.readexactly(LENGTH.size)
            answer = await answers.readexactly(LENGTH.unpack(head)[0])
            whole = True
        except (OSError, asyncio.IncompleteReadError) as error:
            raise BusyError("the process died") from error
        finally:
            if not whole:  # also when we are cancelled: its answer must not become that of the next call
                self._kill()
        return cast("tuple[bool, object]", pickle.loads(answer))  # noqa: S301 (our child's)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._ending is not None:
            self._ending.cancel()
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _PROGRAM, env=environment, stdin=pipe, stdout=pipe
            )
        return self._process

    def _end_when_idle(self) -> None:
        if self._waiting == 0 and self._process is not None:
            self._ending = asyncio.get_running_loop().call_later(self._idle_seconds, self._kill)


async def _reap(process: asyncio.subprocess.Process) -> None:
    """See a killed process off: its pipes are closed only once what is left in them has been read."""
    await process.communicate()

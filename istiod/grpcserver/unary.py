"""Methods that take one message and give one: a coroutine in place of a receiver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client, Receiver, Stream

Answer = Callable[[bytes, Request, Client], Awaitable[bytes]]
"""Gives the answer to a message of a client. Raises RpcError to end the call otherwise."""
_LOGGER = logging.getLogger(__name__)


def unary(answer: Answer) -> Method:
    """A method of which each call is answered by ``answer``. Messages have at most stream.UNCHECKED_LIMIT bytes."""

    def start(stream: Stream, request: Request) -> Receiver:
        return _Call(stream, request, answer)

    return start


class _Call:
    """One call: waits for its message, then runs."""

    def __init__(self, stream: Stream, request: Request, answer: Answer) -> None:
        self._stream = stream
        self._request = request
        self._answer = answer
        self._message: bytes | None = None
        self._task: asyncio.Task[None] | None = None

    def message(self, raw: bytes) -> None:
        if self._message is not None:
            raise RpcError(Code.UNIMPLEMENTED, "more than one message")
        self._message = raw

    def done(self) -> None:
        if self._message is None:
            raise RpcError(Code.UNIMPLEMENTED, "no message")
        self._task = asyncio.create_task(self._run(self._message))

    def drained(self) -> None:
        """An answer needs no room: the call ends with it."""

    def lost(self) -> None:
        task, self._task = self._task, None  # it keeps the error that ends it, and so all that this call knows
        if task is not None:
            task.cancel()

    async def _run(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._request.timeout):
                answer = await self._answer(message, self._request, self._stream.client)
        except RpcError as refusal:
            self._stream.finish(refusal.code, refusal.details)
        except TimeoutError:
            self._stream.finish(Code.DEADLINE_EXCEEDED, "the client's time is over")
        except Exception:  # a bug ends this call, and only it; it is logged whole
            _LOGGER.exception("%s failed", self._request.path)
            self._stream.finish(Code.INTERNAL, "a fault of the control plane")
        else:
            self._stream.send(answer)
            self._stream.finish(Code.OK)

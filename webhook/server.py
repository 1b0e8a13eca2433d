"""The HTTPS shell of both webhooks: /inject, /inject/cluster/X/net/Y and /validate (features A1, V7; port 15017).

Bodies are bounded in size and time, what is no review gets a status and a few words, and bodies that take long to read
go to another process (SEC33). Nobody is told what serves here (SEC34). Which objects and settings there are is the
caller's: they come in through ``Sources``.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from crds.diagnostic import Diagnostic
from webhook import mutation, validation
from webhook.answers import asked_of, mutate, namespace_of, validate, without_config
from webhook.counts import Counts, Injection, Judgement
from webhook.review import MalformedError
from webhook.settings import InjectionConfig
from webhook.worker import BusyError, Worker

LARGEST_BODY: Final = 6 * 1024 * 1024
"""An API server takes requests of 3 MiB; a review of an update holds the object twice."""
MOST_HELD: Final = 64 * 1024 * 1024
"""Bytes of all bodies being read."""
BODY_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 120.0
"""Longer than an API server keeps an idle connection (90 s): it, not we, must be the one to close it."""
_BAD_REQUEST: Final = 400
_BUG: Final = 500
_NAME: Final = "webhook"
_ASKED: Final = b'"EnvoyFilter"'
"""In the body of every review of one; what else has it is looked at more closely."""
_SMALL_POD: Final = 128 * 1024
_SMALL_OBJECT: Final = 16 * 1024
"""Bodies up to here are read in the event loop: about 15 ms at worst."""


Further = Callable[[Mapping[str, object]], Awaitable[tuple[Diagnostic, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the webhooks need of the rest. All are called in the event loop, but ``findings``.

    ``config`` is None while there is none; then pods are refused rather than started outside of the mesh.
    ``annotations`` are those of a namespace. ``findings`` may be called in another process, so it is a function of a
    module. ``further`` is asked in the event loop about an EnvoyFilter that is valid so far, and takes its time; None
    asks nobody. ``counts`` takes what happens here.
    """

    ready: Callable[[], bool]
    config: Callable[[], InjectionConfig | None]
    annotations: Callable[[str], Mapping[str, str]] = lambda _: {}
    findings: validation.Check = validation.check
    further: Further | None = None
    counts: Counts = field(default_factory=Counts)


Handler = Callable[[web.Request], Awaitable[web.Response]]


class RefusedError(Exception):
    """The request is answered with this status; the text holds nothing of what was sent."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Server:
    """Both webhooks. ``application`` is what a runner serves; ``close`` ends the process for large bodies."""

    def __init__(self, sources: Sources, worker: Worker | None = None, body_seconds: float = BODY_SECONDS) -> None:
        self._sources = sources
        self._counts = sources.counts
        self._worker = worker or Worker()
        self._body_seconds = body_seconds
        self._held = 0

    def application(self) -> web.Application:
        """The pages."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.on_response_prepare.append(_anonymous)
        inject = self._timed(self._answering(self._inject, self._not_injected))
        app.router.add_post("/inject", inject)
        app.router.add_post("/inject/{path:.*}", inject)
        app.router.add_post("/validate", self._answering(self._validate, self._not_judged))
        app.router.add_get("/ready", self._ready)
        return app

    async def close(self) -> None:
        """End what runs beside."""
        await self._worker.close()

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ok") if self._sources.ready() else web.Response(status=503, text="not ready")

    def _timed(self, handle: Handler) -> Handler:
        async def timed(request: web.Request) -> web.Response:
            self._counts.requests += 1
            began = time.perf_counter()
            try:
                return await handle(request)
            finally:
                self._counts.seconds.observe(time.perf_counter() - began)

        return timed

    def _not_injected(self, status: int) -> None:
        del status
        self._counts.injections[Injection.FAILURE] += 1

    def _not_judged(self, status: int) -> None:
        self._counts.errors[status] += 1

    def _answering(
        self, answer: Callable[[web.Request, bytes], Awaitable[bytes]], failed: Callable[[int], None]
    ) -> Handler:
        """``failed`` is told each status but 200."""

        async def handle(request: web.Request) -> web.Response:
            try:
                body = await self._body(request)
                return web.Response(body=await answer(request, body), content_type="application/json")
            except RefusedError as refusal:
                response = web.Response(status=refusal.status, text=f"{refusal}\n")
            except MalformedError as problem:
                response = web.Response(status=400, text=f"{problem}\n")
            except RecursionError:  # readers of JSON go deeper than what judges and injects
                response = web.Response(status=400, text="the body is nested too deep\n")
            except BusyError:
                response = web.Response(status=503, text="busy\n")
            except Exception:  # a bug, which aiohttp logs
                failed(_BUG)
                raise
            failed(response.status)
            response.force_close()  # what is left of the body is of no interest
            return response

        return handle

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise RefusedError(400, "the content type has to be application/json")
        if (request.content_length or 0) > LARGEST_BODY:
            raise RefusedError(413, "the body is too large")
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await self._read(request)
        except TimeoutError as error:
            raise RefusedError(408, "the body came too slowly") from error
        except (OSError, web.RequestPayloadError) as error:
            raise RefusedError(400, "the body did not come as it was announced") from error
        if not body:
            raise RefusedError(400, "there is no body")
        return body

    async def _read(self, request: web.Request) -> bytes:
        chunks: list[bytes] = []
        held = 0
        try:
            async for chunk in request.content.iter_any():
                held += len(chunk)
                self._held += len(chunk)
                chunks.append(chunk)
                if held > LARGEST_BODY:
                    raise RefusedError(413, "the body is too large")
                if self._held > MOST_HELD:
                    raise RefusedError(503, "busy")
        finally:
            self._held -= held
        return b"".join(chunks)

    async def _inject(self, request: web.Request, body: bytes) -> bytes:
        answer, outcome = await self._injected(request, body)
        self._counts.injections[outcome] += 1
        return answer

    async def _injected(self, request: web.Request, body: bytes) -> tuple[bytes, Injection]:
        config = self._sources.config()
        large = len(body) > _SMALL_POD
        if config is None:
            return await self._worker.run(without_config, body) if large else without_config(body)
        config = mutation.with_path(config, request.match_info.get("path", ""))
        annotations: Mapping[str, str] = {}
        if config.openshift:
            namespace = await self._worker.run(namespace_of, body) if large else namespace_of(body)
            annotations = dict(self._sources.annotations(namespace))
        if large:
            return await self._worker.run(mutate, body, config, annotations)
        return mutate(body, config, annotations)

    async def _validate(self, _: web.Request, body: bytes) -> bytes:
        answer, judged = await self._judged(body)
        further = self._sources.further
        if further is not None and judged is not None and not judged.reason and _ASKED in body:
            large = len(body) > _SMALL_OBJECT
            item = await self._worker.run(asked_of, body) if large else asked_of(body)
            if item is not None and (more := await further(item)):
                answer, judged = await self._judged(body, more)
        if judged is not None:
            self._counts.judged[judged] += 1
        return answer

    async def _judged(self, body: bytes, more: tuple[Diagnostic, ...] = ()) -> tuple[bytes, Judgement | None]:
        findings = self._sources.findings
        if len(body) > _SMALL_OBJECT:
            return await self._worker.run(validate, body, findings, more)
        return validate(body, findings, more)


async def _anonymous(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _NAME


class _Connection(web.RequestHandler):
    """A connection on which what is no HTTP gets a status: aiohttp says its name, and repeats what it could not read.

    Nothing is logged of it, or anybody could fill the log.
    """

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != _BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, headers={"Server": _NAME})
        response.force_close()
        return response


class Running:
    """The open server. ``port`` is the one it got where it was told to take any."""

    def __init__(self, server: Server, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._server = server
        self._runner = runner
        self._listener = listener
        self.port = int(listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and let answers go out that are being made."""
        self._listener.close()
        await self._runner.cleanup()
        await self._server.close()


async def serve(
    address: str,
    context: ssl.SSLContext,
    sources: Sources,
    worker: Worker | None = None,
    body_seconds: float = BODY_SECONDS,
) -> Running:
    """Listen on HOST:PORT with TLS.

    The caller may renew the certificate of ``context`` in place: later handshakes use it, connections stay.
    A body has to come within ``body_seconds``.

    Raises:
        OSError: the address is taken or not ours.
    """
    server = Server(sources, worker, body_seconds)
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(server.application())
    await runner.setup()
    loop = asyncio.get_running_loop()
    how: dict[str, Any] = {"access_log": None, "keepalive_timeout": _IDLE_SECONDS, "lingering_time": 1.0}
    how |= {"manager": runner.server, "loop": loop}
    try:
        listener = await loop.create_server(
            lambda: _Connection(**how), host.strip("[]") or None, int(port), ssl=context
        )
    except OSError:
        await runner.cleanup()
        raise
    return Running(server, runner, listener)

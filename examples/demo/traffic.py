"""Requests and what came of them: single ones, counted ones, and a steady load beside a change."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp

REVIEWS = "/api/v1/products/0/reviews"
PAGE = "/productpage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer. ``status`` is 0 and ``text`` the reason when there was none; ``seconds`` is the whole time."""

    status: int
    text: str
    seconds: float

    @property
    def version(self) -> str:
        """Which version of reviews it speaks of, "" if none."""
        try:
            return str(json.loads(self.text).get("version", ""))
        except (json.JSONDecodeError, AttributeError):
            return ""


class Client:
    """Asks one address (``http://HOST:PORT``) over kept connections."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        timeout = aiohttp.ClientTimeout(total=15)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """GET a path; a refusal or a time-out is a Reply too."""
        if self._session is None:
            raise RuntimeError("the client is used outside of its `async with`")
        started = time.monotonic()
        try:
            async with self._session.get(self.base + path, headers=headers) as response:
                text = await response.text()
                return Reply(status=response.status, text=text, seconds=time.monotonic() - started)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            return Reply(status=0, text=f"{type(error).__name__}: {error}", seconds=time.monotonic() - started)

    async def versions(self, count: int, user: str = "") -> Counter[str]:
        """Which versions of reviews answered ``count`` requests; failed ones count as "failed STATUS"."""
        headers = {"end-user": user} if user else {}
        found: Counter[str] = Counter()
        for _ in range(count):
            reply = await self.get(REVIEWS, headers)
            found[reply.version if reply.status == HTTPStatus.OK else f"failed {reply.status}"] += 1
        return found


@dataclass(slots=True)
class Load:
    """A steady load beside whatever the body does: ``workers`` clients ask ``path``, each one request after the other.

    ``ok`` counts answers with status 200; ``failed`` has each other answer.
    """

    client: Client
    path: str = REVIEWS
    workers: int = 4
    ok: int = 0
    failed: list[Reply] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _answer: asyncio.Event = field(default_factory=asyncio.Event)
    _over: bool = False

    async def __aenter__(self) -> Self:
        """Start, and go on once every worker has had an answer."""
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(self.workers)]
        await self.more(self.workers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop after the requests under way."""
        self._over = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Wait for that many further answers."""
        goal = self.total + count
        while self.total < goal:
            self._answer.clear()
            await self._answer.wait()

    @property
    def total(self) -> int:
        """All answers so far."""
        return self.ok + len(self.failed)

    async def _ask(self) -> None:
        while not self._over:
            reply = await self.client.get(self.path)
            if reply.status == HTTPStatus.OK:
                self.ok += 1
            else:
                self.failed.append(reply)
            self._answer.set()

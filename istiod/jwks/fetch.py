"""One fetch of a key set over HTTP: the thin shell. Limits are here, when to fetch is refresh's.

At most 1 MB, few redirects, nothing of the environment's proxies, and each address judged before a connection is made.
"""

from __future__ import annotations

import asyncio
import pathlib
import re
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from crds import jwks
from istiod.config.key_sets import KeySource
from istiod.jwks.guard import Guard

MOST_REDIRECTS: Final = 3
LONGEST: Final = timedelta(minutes=1)
"""No rule's timeout makes a fetch longer."""
EXTRA_ROOTS: Final = pathlib.Path("/cacerts/extra.pem")
"""More roots for the servers of key sets, beside the system's (chart: pilot.jwksResolverExtraRootCA)."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OK: Final = 200
_HOST: Final = re.compile(r"[-A-Za-z0-9._:]+\Z")
_NUMBER: Final = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)\Z")
"""The last part of what some resolver takes for an address, such as 012.0.0.1: what is not plainly one, is refused."""
_CHUNK: Final = 65_536

Own = Callable[[str], frozenset[str]]
"""The addresses of the mesh's service of a name."""


class FetchError(Exception):
    """A key set could not be had; the message says why, without anything of what a server answered."""


class Fetcher:
    """Fetches key sets. ``own`` says which private addresses a name of the mesh may have."""

    def __init__(self, guard: Guard, own: Own, extra_roots: pathlib.Path = EXTRA_ROOTS) -> None:
        self._guard = guard
        self._own = own
        self._extra_roots = extra_roots
        self._trusted: tuple[int | None, ssl.SSLContext] | None = None

    async def fetch(self, source: KeySource, timeout: timedelta) -> str:  # noqa: ASYNC109 (of the rule, for all steps)
        """The key set of a source, with the keys that Envoy can use.

        Raises:
            FetchError: there is none.
        """
        limit = min(timeout, LONGEST).total_seconds()
        try:
            async with asyncio.timeout(limit), self._session() as session:
                uri = source.uri or await self._discovered(session, str(source))
                return jwks.usable(await self._get(session, uri))
        except TimeoutError as problem:
            raise FetchError(f"no answer within {limit:g} s") from problem
        except jwks.KeySetError as problem:
            raise FetchError(f"what came {problem}") from problem
        except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as problem:
            raise FetchError(_words(problem)) from problem

    def _session(self) -> aiohttp.ClientSession:
        resolver = _Resolver(self._guard, self._own)
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, ssl=self._context(), force_close=True)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    def _context(self) -> ssl.SSLContext:
        """Whom to trust. Reading all roots holds up the event loop for tens of ms: only when the extra ones changed."""
        version = self._extra_roots.stat().st_mtime_ns if self._extra_roots.is_file() else None
        if self._trusted is None or self._trusted[0] != version:
            context = ssl.create_default_context()
            if version is not None:
                context.load_verify_locations(self._extra_roots)
            self._trusted = (version, context)
        return self._trusted[1]

    async def _discovered(self, session: aiohttp.ClientSession, page: str) -> str:
        """Where an issuer says that its keys are."""
        found = jwks.document(await self._get(session, page))
        uri = found.get("jwks_uri") if isinstance(found, dict) else None
        if not isinstance(uri, str) or not uri:
            raise FetchError(f"{page} names no jwks_uri")
        return uri

    async def _get(self, session: aiohttp.ClientSession, uri: str) -> str:
        for _ in range(MOST_REDIRECTS + 1):
            self._require(uri)
            async with session.get(uri, allow_redirects=False) as answer:
                if answer.status not in _REDIRECTS:
                    return await _body(answer)
                uri = urljoin(uri, answer.headers.get("Location", ""))
        raise FetchError(f"more than {MOST_REDIRECTS} redirects")

    def _require(self, uri: str) -> None:
        """Refuse what is no URL of HTTP, and an address that is blocked (names are judged when they are resolved)."""
        parts = urlsplit(uri)
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in ("http", "https") or not _HOST.match(host):
            raise FetchError("led to what is no URL of scheme http or https")
        is_address = ":" in host or _NUMBER.match(host.rpartition(".")[2]) is not None
        if is_address and not self._guard.lets(host):
            raise FetchError(_blocked(host))


async def _body(answer: aiohttp.ClientResponse) -> str:
    if answer.status != _OK:
        raise FetchError(f"the server answered {answer.status}")
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(_CHUNK):
        size += len(part)
        if size > jwks.LARGEST:
            raise FetchError(f"more than {jwks.LARGEST} bytes")
        parts.append(part)
    return b"".join(parts).decode()


class _Resolver(AbstractResolver):
    """Resolves names, and leaves out what is blocked: aiohttp connects to nothing else."""

    def __init__(self, guard: Guard, own: Own) -> None:
        self._guard = guard
        self._own = own

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name that keys may come from.

        Raises:
            OSError: there is none.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        own = self._own(host)
        kept = [one for one in found if self._guard.lets(str(one[4][0]), own)]
        if not kept:
            raise BlockedError(_blocked(host))
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in kept
        ]

    async def close(self) -> None:
        """Nothing to end."""


class BlockedError(OSError):
    """A name stands for blocked addresses only."""


def _blocked(host: str) -> str:
    return f"{host} is private, local or blocked, and no address that istiod may ask (ALLOWED_CIDRS_IN_JWKS_URIS)"


def _words(problem: BaseException) -> str:
    """What went wrong, in a few words: the deepest of ours, else what kind of error it is."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, BlockedError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(problem, ssl.SSLError | aiohttp.ClientConnectorCertificateError):
        return "the server's certificate is not trusted"
    if isinstance(problem, aiohttp.ClientConnectorError):
        return f"cannot connect: {problem.os_error.strerror or type(problem.os_error).__name__}"
    return type(problem).__name__ if isinstance(problem, UnicodeDecodeError) else str(problem) or type(problem).__name__

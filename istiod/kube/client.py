"""The one door to the Kubernetes API: requests, and the list-watch engine of kopf.

The only module that touches kopf's inside (``kopf._cogs``): its generator of list and watch, its requests and the vault
that they take their session from. The version is pinned in the lock, and tests/kube/test_contract.py holds it to what
is used of it here. Of kopf's operator nothing is used (DESIGN section 6). Errors are wrapped here, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, Final, cast

import aiohttp
import kopf
from kopf._cogs.clients import api, auth, errors, watching
from kopf._cogs.configs import configuration
from kopf._cogs.structs import credentials as vaults
from kopf._cogs.structs import references

from istiod.config.kubernetes import ApiError, Event, Raw, Resource, Verb
from istiod.config.protocols import Stopper
from istiod.kube import credentials

CONNECT_TIMEOUT: Final = 10.0
LIST_TIMEOUT: Final = 60.0
"""Seconds for one page of a listing."""
REQUEST_TIMEOUT: Final = 10.0
PAGE: Final = 500
"""Objects in one page: at most one is in memory before it is stripped."""
INACTIVITY: Final = 65.0
"""Seconds of silence after which a watch begins anew; the API server sends a bookmark each minute (fault FT5)."""
WATCH_LIFE: Final = (270, 330)
"""Seconds after which the API server ends a watch, drawn anew for each pass, so that they do not end together."""
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_RELOGIN: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before credentials that were refused are read again."""
_ACCEPTED: Final = 60.0
"""Seconds for which credentials have to be used to count as accepted: the next refusal is a first one again."""
_RECONNECT: Final = (0.3, 0.7, *((1.5,) * 20))
"""Seconds between attempts to reach an API server that a watch had reached before (fault FT1: back within 3 s)."""
_VERBS: Final = {None: Verb.PRESENT, "ADDED": Verb.CHANGED, "MODIFIED": Verb.CHANGED, "DELETED": Verb.DELETED}
_CHANCE: Final = random.SystemRandom()
_SILENT: Final = logging.getLogger("istiod.kopf")
_LOGGER: Final = logging.getLogger(__name__)
_TROUBLE: Final = (
    errors.APIError,
    errors.APISessionClosed,
    watching.WatchingError,
    vaults.LoginError,
    aiohttp.ClientError,
    OSError,  # and with it TimeoutError
    ValueError,  # what came is no JSON
    LookupError,  # or is no object of Kubernetes
    TypeError,
)


class KubernetesClient:
    """Requests and watches with one set of credentials, which are read again when they are refused."""

    def __init__(self, login: Callable[[], kopf.ConnectionInfo]) -> None:
        """Use what ``login`` gives; made inside the event loop.

        Raises:
            credentials.LoginError: there are no credentials now.
        """
        _SILENT.disabled = True  # kopf logs each attempt as an error; what lasts is reported by those who ask
        self._login = login
        self._info = self._session()
        self._vault = vaults.Vault({"istiod": self._info})
        self._settings = _settings(backoffs=())
        self._settings.networking.request_timeout = REQUEST_TIMEOUT
        self._task = asyncio.create_task(self._log_in_again(), name="login to the API server")

    async def close(self) -> None:
        """End all connections."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._vault.close()  # and not by asking it for the session: it has none to give while it was refused
        await self._info.aiohttp_session.close()

    async def request(
        self, method: str, path: str, body: object = None, *, kind: str = "", deadline: float = REQUEST_TIMEOUT
    ) -> Any:
        """One call, answered with what the server's JSON holds.

        Args:
            method: of HTTP.
            path: from /api or /apis on, with its query.
            body: what is sent as JSON.
            kind: the body's content type where it is not plain JSON (MERGE_PATCH).
            deadline: seconds.

        Raises:
            ApiError: refused, failed, or not answered in time.
        """
        return await self._call(method, path, body, {"Content-Type": kind} if kind else {}, deadline)

    async def heads(self, resource: Resource) -> AsyncGenerator[Raw]:
        """See istiod.config.protocols.ObjectApi.

        Raises:
            ApiError: the API server refused or failed.
        """
        asked = {"limit": str(PAGE), **({"fieldSelector": resource.fields} if resource.fields else {})}
        while True:
            namespace = cast("references.Namespace", resource.namespace or None)
            path = _reference(resource).get_url(namespace=namespace, params=asked)
            page = await self._call("get", path, None, {"Accept": _METADATA}, LIST_TIMEOUT)
            try:
                items, following = page["items"] or (), page["metadata"].get("continue", "")
            except (LookupError, TypeError, AttributeError) as error:
                raise ApiError(f"GET {path.partition('?')[0]}: what came is no list of objects") from error
            for item in items:
                yield cast("Raw", item)
            if not following:
                return
            asked["continue"] = following

    async def _call(self, method: str, path: str, body: object, headers: Mapping[str, str], deadline: float) -> Any:
        auth.vault_var.set(self._vault)
        try:
            async with asyncio.timeout(deadline):
                response = await api.request(
                    method,
                    path,
                    settings=self._settings,
                    payload=body,
                    headers=dict(headers) or None,
                    timeout=aiohttp.ClientTimeout(total=deadline, sock_connect=CONNECT_TIMEOUT),
                    logger=_SILENT,
                )
                async with response:
                    return await response.json()
        except _TROUBLE as error:
            raise _wrapped(f"{method.upper()} {path.partition('?')[0]}", error) from error

    async def events(self, resource: Resource, stop: Stopper) -> AsyncGenerator[Event]:
        """See istiod.config.protocols.ObjectApi.

        Raises:
            ApiError: the API server refused or failed.
        """
        auth.vault_var.set(self._vault)
        settings = _settings(backoffs=())
        if resource.fields:
            settings.watching.field_selectors[kopf.EVERYTHING] = resource.fields
        stream = watching.continuous_watch(
            settings=settings,
            resource=_reference(resource),
            namespace=cast("references.Namespace", resource.namespace or None),
            operator_pause_waiter=cast("asyncio.Future[Any]", stop),
        )
        async with contextlib.aclosing(cast("AsyncGenerator[Any]", stream)):
            while True:
                try:
                    said = await anext(stream)
                except StopAsyncIteration:
                    return
                except _TROUBLE as error:
                    raise _wrapped(str(resource), error) from error
                if said is watching.Bookmark.LISTED:
                    # A refused listing is told at once; a watch that breaks off goes on where it was
                    settings.networking.error_backoffs = _Jittered(_RECONNECT)
                    yield Event(verb=Verb.LISTED, item={})
                else:
                    event = cast("Mapping[str, Any]", said)
                    yield Event(verb=_VERBS.get(event["type"], Verb.ALIVE), item=cast("Raw", event["object"]))

    def _session(self) -> kopf.AiohttpSession:
        info = self._login()
        return kopf.AiohttpSession(server=info.server, aiohttp_session=credentials.session(info))

    async def _log_in_again(self) -> None:
        """Give new credentials: kopf takes refused ones out of its vault and waits for others."""
        clock = asyncio.get_running_loop().time
        refused, last = 0, clock()
        while True:
            await self._vault.wait_for_emptiness()
            if clock() > last + _ACCEPTED:
                refused = 0
            await asyncio.sleep(_RELOGIN[min(refused, len(_RELOGIN) - 1)])
            refused, last = refused + 1, clock()
            try:
                with contextlib.suppress(credentials.LoginError):
                    await self._log_in()
            except Exception:
                _LOGGER.exception("the credentials for the API server cannot be read now")

    async def _log_in(self) -> None:
        before, self._info = self._info, self._session()
        await before.aiohttp_session.close()
        await self._vault.populate({"istiod": self._info})


class _Jittered:
    """Delays for kopf, each drawn anew between half and one and a half of it."""

    def __init__(self, delays: tuple[float, ...]) -> None:
        self._delays = delays

    def __iter__(self) -> Iterator[float]:
        return (delay * _CHANCE.uniform(0.5, 1.5) for delay in self._delays)


def _settings(backoffs: tuple[float, ...]) -> configuration.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = backoffs
    settings.networking.request_timeout = LIST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.watching.inactivity_timeout = INACTIVITY
    settings.watching.server_timeout = _CHANCE.randint(*WATCH_LIFE)
    settings.watching.chunk_size = PAGE
    settings.watching.initial_streaming = False
    return settings


def _reference(resource: Resource) -> references.Resource:
    return references.Resource(
        group=resource.group,
        version=resource.version,
        plural=resource.plural,
        kind=resource.kind,
        namespaced=resource.namespaced,
    )


def _wrapped(what: str, error: BaseException) -> ApiError:
    """What went wrong, with the server's own words."""
    if isinstance(error, errors.APIError):
        after = {name.lower(): value for name, value in error.headers.items()}.get("retry-after", "")
        said = error.message or " ".join(str(arg) for arg in error.args if isinstance(arg, str))
        payload = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], Mapping) else {}
        return ApiError(
            f"{what}: {said}" if said.startswith(str(error.status)) else f"{what}: {error.status} {said}".strip(),
            status=error.status,
            reason=str(payload.get("reason", "")),
            retry_after=float(after) if after.isdecimal() else 0.0,
        )
    words = str(error) or type(error).__name__
    if isinstance(error, watching.WatchingError):
        return ApiError(f"{what}: {words}", status=500, reason="WatchError")
    return ApiError(f"{what}: {words}")

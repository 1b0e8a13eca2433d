"""The end of a pod without a lost request: it stops only when nobody sends to it any more (features row Z5).

The control plane says when every proxy has ACKed endpoints without this pod; until then new requests may come, so app
and Envoy go on as before. After that the requests that are under way are let end. Both together are bounded by the
pod's grace period; where the control plane cannot say, or has no such service (Istio's), the pod ends as it always did.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from agent import envoy_admin, httpwire
from agent.bootstrap.inputs import InputError
from agent.sds.identity import CaClient, IdentityError
from protos import drain_pb2
from wire import names

MARGIN: Final = 3.0
"""Seconds of the grace period that are left for Envoy to end in."""
METHOD: Final = "/drain.v1.Departures/Release"
_DEFAULT_GRACE: Final = 30.0
_ANSWER_SECONDS: Final = 6.0
_AGAIN_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.1
_QUIET_LOOKS: Final = 2
"""So many looks in a row have to find no request."""
_FINAL: Final = frozenset((grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND))
"""Answers that asking again would not change."""
_LOG: Final = logging.getLogger("agent")


def limit(environment: Mapping[str, str]) -> float | None:
    """Seconds that a departure may take; None where none is asked for.

    Raises:
        InputError: the grace period is no number.
    """
    if environment.get(names.DRAIN_UNTIL_ACKNOWLEDGED) != "true":
        return None
    said = environment.get(names.GRACE_PERIOD) or str(_DEFAULT_GRACE)
    try:
        return max(0.0, float(said) - MARGIN)
    except ValueError as error:
        raise InputError(f"{names.GRACE_PERIOD}: {said!r} is no number of seconds") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """Whose departure it is."""

    namespace: str
    name: str


class Departure:
    """The one departure of a pod, however many ask for it: hooks of all containers, and the agent itself."""

    def __init__(self, pod: Pod, client: CaClient, admin: envoy_admin.EnvoyAdmin, seconds: float) -> None:
        """``seconds`` bound it."""
        self._question = drain_pb2.ReleaseRequest(namespace=pod.namespace, pod=pod.name)
        self._client = client
        self._admin = admin
        self._seconds = seconds
        self._task: asyncio.Task[bool | None] | None = None

    async def over(self) -> bool | None:
        """Wait for it: True when nobody sends any more and nothing is under way, False when time is over.

        None: the control plane cannot say; the pod ends as it did without.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(self._task)

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> bool | None:
        try:
            async with asyncio.timeout(self._seconds):
                if not await self._nobody():
                    return None
                await _until(self._idle)
        except TimeoutError:
            _LOG.warning("not all have given this pod up, or ended their requests, after %g s", self._seconds)
            return False
        _LOG.info("every proxy has acknowledged that this pod is gone, and no request is under way")
        return True

    async def _nobody(self) -> bool:
        while True:
            try:
                answer = await self._ask()
            except grpc.aio.AioRpcError as error:
                _LOG.warning(
                    "who still sends to this pod: %s: %s %s", self._client.address, error.code().name, error.details()
                )
                if error.code() in _FINAL:
                    return False
            except (IdentityError, OSError) as error:
                _LOG.warning("who still sends to this pod: %s", error)
            else:
                if not answer.holder:
                    return True
                _LOG.info("%s may still send to this pod", answer.holder)
            await asyncio.sleep(_AGAIN_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)

    async def _ask(self) -> drain_pb2.ReleaseResponse:
        async with self._client.channel() as (channel, metadata):
            release: Callable[..., Awaitable[drain_pb2.ReleaseResponse]] = channel.unary_unary(
                METHOD,
                request_serializer=drain_pb2.ReleaseRequest.SerializeToString,
                response_deserializer=drain_pb2.ReleaseResponse.FromString,
            )
            return await release(self._question, metadata=metadata, timeout=_ANSWER_SECONDS)

    async def _idle(self) -> bool:
        try:
            return await self._admin.inbound_requests() == 0
        except httpwire.HttpError:  # Envoy is gone: nothing is under way
            return True


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Several times in a row: a request may be on the wire, and Envoy counts it when it has read its head."""
    seen = 0
    while seen < _QUIET_LOOKS:
        seen = seen + 1 if await condition() else 0
        await asyncio.sleep(_POLL_SECONDS)

"""``drain.v1.Departures/Release``: whether a pod that ends may stop, since every proxy has given up its addresses.

The agent of the pod asks one replica, which asks all others: each knows what its own proxies have ACKed. A replica that
does not answer counts as one whose proxies still hold the pod. So "nobody" is never a guess; that somebody holds it
may be, and what follows of it is bounded by the pod's grace period.

An answer waits for a while for the last ACK: an agent that asked again and again would cost a handshake each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from istiod import bearer
from istiod.config.protocols import TokenVerifier
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from istiod.grpcserver.unary import unary
from istiod.mesh.departure import Departure
from protos import drain_pb2
from wire.spiffe import Identity

METHOD: Final = "/drain.v1.Departures/Release"
WAIT: Final = 2.0
"""Seconds that an answer may take; after them it says who still holds the pod."""
PERIOD: Final = 0.1
"""Seconds between two looks."""
MOST: Final = 1000
"""Pods that wait at one replica at once."""

Leaving = Callable[[str, str], Departure | None]
"""The departure of a pod, by namespace and name."""
Ask = Callable[[drain_pb2.ReleaseRequest], Awaitable[str]]
"""Asks one other replica: who holds the pod there, "" for nobody. What goes wrong is an answer, too: its reason."""


class Holding(Protocol):
    """See istiod.ads.server.AdsService.holder."""

    def __call__(self, hosts: Collection[str], addresses: Iterable[str], first: str = "") -> str:
        """The node id of a proxy that may send to one of these addresses."""
        ...


class DrainService:
    """Answers Release.

    ``verifier`` recognises callers by token; ``ours`` are the identities of replicas; ``replicas`` gives one Ask per
    other replica.
    """

    def __init__(
        self,
        leaving: Leaving,
        holder: Holding,
        verifier: TokenVerifier,
        ours: Callable[[Identity], bool] = lambda _: False,
        replicas: Callable[[], Sequence[Ask]] = tuple,
    ) -> None:
        self._leaving = leaving
        self._holder = holder
        self._verifier = verifier
        self._ours = ours
        self._replicas = replicas
        self._waiting = 0

    def methods(self) -> Mapping[str, Method]:
        """For a grpcserver.Server."""
        return {METHOD: unary(self.release)}

    async def release(self, raw: bytes, request: Request, client: Client) -> bytes:
        """Who still holds a pod, when nobody does, or when that took too long.

        Raises:
            RpcError: UNAUTHENTICATED, PERMISSION_DENIED (it is not the caller's pod), NOT_FOUND (nobody knows the pod),
                INVALID_ARGUMENT or RESOURCE_EXHAUSTED with the reason.
        """
        caller = await self._caller(request, client)
        try:
            asked = drain_pb2.ReleaseRequest.FromString(raw)
        except DecodeError as error:
            raise RpcError(Code.INVALID_ARGUMENT, "the message is no ReleaseRequest") from error
        if asked.alone and not self._ours(caller):
            raise RpcError(Code.PERMISSION_DENIED, f"{caller} is no replica of this control plane")
        found = self._leaving(asked.namespace, asked.pod)
        if found is None and not asked.alone:
            raise RpcError(Code.NOT_FOUND, f"no pod {asked.namespace}/{asked.pod} is known")
        if found is not None and not asked.alone and found.identity != str(caller):
            raise RpcError(Code.PERMISSION_DENIED, f"pod {asked.namespace}/{asked.pod} is not one of {caller}")
        if self._waiting >= MOST:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{MOST} pods wait already")
        self._waiting += 1
        try:
            holder = await self._wait(asked, found)
        finally:
            self._waiting -= 1
        return drain_pb2.ReleaseResponse(holder=holder).SerializeToString()

    async def _wait(self, asked: drain_pb2.ReleaseRequest, found: Departure | None) -> str:
        if found is None:  # a replica whose mesh does not have the pod any more, or not yet
            return f"the pod {asked.namespace}/{asked.pod}, which is not known here"
        if asked.alone:
            return await self._nobody(found)
        question = drain_pb2.ReleaseRequest(namespace=asked.namespace, pod=asked.pod, alone=True)
        answers = await asyncio.gather(self._nobody(found), *(ask(question) for ask in self._replicas()))
        # Once more: meanwhile a proxy may have come here from a replica that has answered
        return next(filter(None, answers), "") or self._holder(found.hosts, found.addresses)

    async def _nobody(self, found: Departure) -> str:
        """Wait until no proxy of this replica holds the pod; "" then."""
        loop, holder = asyncio.get_running_loop(), ""
        end = loop.time() + WAIT
        while True:
            holder = self._holder(found.hosts, found.addresses, holder)
            if not holder or loop.time() >= end:
                return holder
            await asyncio.sleep(PERIOD)

    async def _caller(self, request: Request, client: Client) -> Identity:
        if request.values(b"authorization") or client.certificate is None:
            return await bearer.proven(request, self._verifier)
        try:
            return bearer.shown(client.certificate)
        except ValueError as error:
            raise RpcError(Code.UNAUTHENTICATED, str(error)) from error

"""``drain.v1.Ages/Age``: what one replica asks the others when the API server is silent: how old is what you know?

An answer is a promise to take proxies: a replica that is not ready, or short of memory, gives none. The message is
empty, the answer a ``google.protobuf.DoubleValue`` of seconds. What follows of it is istiod.drain.blind's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from google.protobuf.wrappers_pb2 import DoubleValue

from istiod import bearer
from istiod.drain.replicas import Proof, reached
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Method
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from istiod.grpcserver.unary import unary
from wire.spiffe import Identity

METHOD: Final = "/drain.v1.Ages/Age"
ANSWER: Final = 3.0
"""Seconds for an answer."""


class AgeService:
    """Answers. ``able``: whether proxies may come here; ``ours`` are the identities of replicas."""

    def __init__(self, age: Callable[[], float], able: Callable[[], bool], ours: Callable[[Identity], bool]) -> None:
        self._age = age
        self._able = able
        self._ours = ours

    def methods(self) -> Mapping[str, Method]:
        """For a grpcserver.Server."""
        return {METHOD: unary(self.age)}

    async def age(self, raw: bytes, request: Request, client: Client) -> bytes:
        """Seconds since the API server last answered this replica; 0 where it answers.

        Raises:
            RpcError: UNAUTHENTICATED, PERMISSION_DENIED (the caller is no replica), or UNAVAILABLE: send nobody here.
        """
        del raw, request
        try:
            caller = bearer.shown(client.certificate)
        except ValueError as error:
            raise RpcError(Code.UNAUTHENTICATED, str(error)) from error
        if not self._ours(caller):
            raise RpcError(Code.PERMISSION_DENIED, f"{caller} is no replica of this control plane")
        if not self._able():
            raise RpcError(Code.UNAVAILABLE, "this replica takes no proxies now")
        return DoubleValue(value=self._age()).SerializeToString()


class Peers:
    """The replicas to which our proxies would go: HOST:PORT of each, and a proof for them, or LookupError."""

    def __init__(self, addresses: Callable[[], Sequence[str]], proof: Callable[[], Proof]) -> None:
        self._addresses = addresses
        self._proof = proof

    async def youngest(self) -> float:
        """The least age that one of them tells; infinite where none does."""
        addresses = self._addresses()
        if not addresses:
            return math.inf
        try:
            proof = self._proof()
        except LookupError:  # we are no pod of the mesh, or have no certificate: nobody would believe us
            return math.inf
        return min(await asyncio.gather(*(_asked(address, proof) for address in addresses)))


async def _asked(address: str, proof: Proof) -> float:
    import grpc.aio  # noqa: PLC0415 (a control plane that always sees its API server does without)

    async with grpc.aio.secure_channel(**reached(address, proof)) as connection:
        ask: Callable[..., Awaitable[DoubleValue]] = connection.unary_unary(
            METHOD, response_deserializer=DoubleValue.FromString
        )
        try:
            said = (await ask(b"", timeout=ANSWER)).value
        except grpc.aio.AioRpcError:  # silence, a refusal, or a replica that does not know the method
            return math.inf
    return said if said >= 0 else math.inf

"""Asks the other replicas of this control plane who holds a pod, over mTLS with a certificate of its own CA.

They are the endpoints of the Service that this replica belongs to, as the mesh has them. gRPC's own client is imported
when the first pod asks: a control plane of one replica does without.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from istiod.drain.service import METHOD, WAIT, Ask
from protos import drain_pb2

ANSWER: Final = WAIT + 2.0
"""Seconds for an answer, which itself may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a replica shows, and what it trusts: PEM. ``name`` is a DNS name that every replica's certificate has."""

    key: bytes
    chain: bytes
    roots: bytes
    name: str


def reached(address: str, proof: Proof) -> dict[str, Any]:
    """How another replica, at HOST:PORT, is reached: arguments of grpc.aio.secure_channel."""
    import grpc  # noqa: PLC0415 (see above)

    options = (
        ("grpc.ssl_target_name_override", proof.name),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
    )
    credentials = grpc.ssl_channel_credentials(proof.roots, proof.key, proof.chain)
    return {"target": address, "credentials": credentials, "options": options}


class Replicas:
    """All others. ``addresses`` gives HOST:PORT of each, ``proof`` a fresh one, or raises LookupError."""

    def __init__(self, addresses: Callable[[], Sequence[str]], proof: Callable[[], Proof]) -> None:
        self._addresses = addresses
        self._proof = proof

    def asks(self) -> Sequence[Ask]:
        """One question for each."""
        addresses = self._addresses()
        if not addresses:
            return ()
        try:
            proof = self._proof()
        except LookupError as error:
            return (partial(_unable, str(error)),)
        return [partial(self._ask, address, proof) for address in addresses]

    async def _ask(self, address: str, proof: Proof, question: drain_pb2.ReleaseRequest) -> str:
        import grpc.aio  # noqa: PLC0415 (see above)

        async with grpc.aio.secure_channel(**reached(address, proof)) as connection:
            release: Callable[..., Awaitable[drain_pb2.ReleaseResponse]] = connection.unary_unary(
                METHOD,
                request_serializer=drain_pb2.ReleaseRequest.SerializeToString,
                response_deserializer=drain_pb2.ReleaseResponse.FromString,
            )
            try:
                answer = await release(question, timeout=ANSWER)
            except grpc.aio.AioRpcError as error:
                return f"replica {address}, which does not say: {error.code().name} {error.details()}"
        return answer.holder


async def _unable(reason: str, _: drain_pb2.ReleaseRequest) -> str:
    return f"a replica, which cannot be asked: {reason}"

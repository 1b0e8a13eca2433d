"""Thousands want certificates at once (fault FT38): all get one in time, and everything else goes on meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, queue, server, tokens
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client
from tests.ca import chains
from tests.ca.test_server import request

KEY = ec.generate_private_key(ec.SECP256R1())
CLIENT = Client(address="10.0.0.1:1", secure=True)
COUNT = 300


def service() -> server.CertificateService:
    ca = authority.Authority(authority.self_signed("cluster.local", chains.now()))
    return server.CertificateService(
        ca, tokens.LocalTokenVerifier(KEY.public_key(), "cluster.local", chains.now), chains.now
    )


def call() -> Request:
    account = tokens.Account(namespace="default", service_account="sleep")
    token = tokens.mint(KEY, account, chains.now())
    return Request(path="", metadata=((b"authorization", f"Bearer {token}".encode()),))


async def test_a_crowd_is_served_in_order_and_others_have_their_turn_between_two_signatures() -> None:
    asked, one, raw = service(), call(), request().SerializeToString()
    order: list[int] = []

    async def ask(number: int) -> None:
        await asked.create_certificate(raw, one, CLIENT)
        order.append(number)

    began = time.monotonic()
    tasks = [asyncio.create_task(ask(number)) for number in range(COUNT)]
    seen = []
    while not all(task.done() for task in tasks):
        seen.append(len(order))
        await asyncio.sleep(0)
    assert order == sorted(order)
    assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 2
    assert time.monotonic() - began < 30


async def test_more_than_can_be_served_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST", 3)
    asked, one, raw = service(), call(), request().SerializeToString()
    found = await asyncio.gather(
        *(asked.create_certificate(raw, one, CLIENT) for _ in range(5)), return_exceptions=True
    )
    refused = [each for each in found if isinstance(each, RpcError)]
    assert len(refused) == 2
    assert {(each.code, "try again in 10 s" in each.details) for each in refused} == {(Code.UNAVAILABLE, True)}
    assert await asked.create_certificate(raw, one, CLIENT)


async def test_a_refused_request_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST", 1)
    asked, one = service(), call()
    for _ in range(3):
        with pytest.raises(RpcError) as refused:
            await asked.create_certificate(b"", one, CLIENT)
        assert refused.value.code == Code.INVALID_ARGUMENT

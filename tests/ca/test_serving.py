"""The certificate of our own servers: renewed for later handshakes, and safe under many of them."""

from __future__ import annotations

import asyncio
import datetime as dt

import grpc.aio
import pytest

from istiod.ca import authority, serving
from istiod.grpcserver.server import Server
from tests.waiting import until

AT_ONCE = 100


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def made() -> tuple[authority.Authority, serving.ServingCertificate]:
    ca = authority.Authority(authority.self_signed("cluster.local", now()))
    return ca, serving.ServingCertificate(ca, now)


def test_a_renewal_is_for_later_connections() -> None:
    _, certificate = made()
    before = certificate.context()
    assert certificate.context() is before
    certificate.renew()
    assert certificate.context() is not before


@pytest.mark.parametrize(("left", "later"), [(dt.timedelta(days=900), 16), (dt.timedelta(days=4), 3)])
async def test_it_is_renewed_at_half_of_its_life_by_the_clock_on_the_wall(
    monkeypatch: pytest.MonkeyPatch, left: dt.timedelta, later: int
) -> None:
    """Which may jump, and a life may be shorter than usual, as the CA's own ends."""
    monkeypatch.setattr(serving, "LOOK", 0.01)
    moment = now()
    ca = authority.Authority(authority.self_signed("cluster.local", moment, left))
    certificate = serving.ServingCertificate(ca, lambda: moment)
    before, ends = certificate.context(), certificate.ends
    task = asyncio.create_task(certificate.renew_forever())
    try:
        moment += dt.timedelta(days=later)
        await until(lambda: certificate.context() is not before, "it is renewed")
        assert certificate.ends >= ends
    finally:
        task.cancel()


async def test_many_handshakes_at_once_are_served_also_after_a_renewal() -> None:
    ca, certificate = made()
    server = Server({})
    port = server.listen("127.0.0.1:0", certificate.context)
    trust = grpc.ssl_channel_credentials(ca.roots.encode())
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own each
    try:
        for _ in range(2):
            channels = [grpc.aio.secure_channel(f"localhost:{port}", trust, options) for _ in range(AT_ONCE)]
            await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), 60)
            await asyncio.gather(*(channel.close() for channel in channels))
            certificate.renew()
    finally:
        await server.stop(0)

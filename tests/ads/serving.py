"""A service of xDS on a port of its own."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

from istiod.ads.server import AdsService
from istiod.config.protocols import TokenVerifier
from istiod.grpcserver.deadlines import Limits
from istiod.grpcserver.server import Method, Server


class Running:
    """Where a service is served."""

    def __init__(
        self,
        service: AdsService,
        *,
        context: Callable[[], ssl.SSLContext] | None = None,
        limits: Limits | None = None,
        verifier: TokenVerifier | None = None,
        more: Mapping[str, Method] | None = None,
    ) -> None:
        self.service = service
        self.server = Server({**service.methods(verifier), **(more or {})}, limits)
        self.port = self.server.listen("127.0.0.1:0", context)

    async def stop(self, grace: float = 0.1) -> None:
        self.service.end()
        await self.server.stop(grace)


@contextlib.asynccontextmanager
async def running(service: AdsService, limits: Limits | None = None) -> AsyncIterator[Running]:
    made = Running(service, limits=limits)
    try:
        yield made
    finally:
        await made.stop()

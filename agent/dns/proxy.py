"""The DNS proxy as the agent runs it: the parts put together. Imported only where DNS is captured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
from collections.abc import Mapping
from typing import Any, Final

from agent.dns import resolvconf, settings, table, tables
from agent.dns.server import DnsServer
from agent.dns.upstream import Upstream
from agent.sds.identity import CaClient
from protos import nds_pb2

_RESOLV_CONF: Final = pathlib.Path("/etc/resolv.conf")
_LOG: Final = logging.getLogger("dns")


class DnsProxy:
    """Answers the app, and follows the control plane's table meanwhile."""

    def __init__(self, environment: Mapping[str, str], domain: str, node: Mapping[str, Any], client: CaClient) -> None:
        """Read what names are asked for and where; nothing runs yet.

        Args:
            environment: the agent's.
            domain: DNS suffix of the pod's namespace (``--domain``).
            node: the node of the proxy's bootstrap.
            client: where the control plane is, and who we are.

        Raises:
            OSError: ``/etc/resolv.conf`` cannot be read.
            DnsAddressError: DNS_PROXY_ADDR is no address.
        """
        found = resolvconf.read(_RESOLV_CONF.read_text(encoding="utf-8", errors="replace"))
        where = settings.read(environment, found)
        upstream = Upstream(found.without(where.addresses).servers, parallel=where.parallel)
        namespace = environment.get("POD_NAMESPACE") or "default"
        self._home = table.home(namespace, domain or f"{namespace}.svc.cluster.local", found.search)
        self._server = DnsServer(where.addresses, upstream)
        self._client = client
        self._node = tables.Node(id=node["id"], cluster=node["cluster"], metadata=node["metadata"])
        self._following: asyncio.Task[None] | None = None
        self.said = b""
        """The newest table as it came, for whoever looks at it: as bytes it takes the least."""

    @property
    def ready(self) -> bool:
        """Whether names are known."""
        return self._server.table is not None

    async def start(self) -> None:
        """Listen, and begin to follow.

        Raises:
            OSError: the address is taken.
        """
        await self._server.start()
        self._following = asyncio.create_task(tables.follow(self._client, self._node, self._take))

    async def stop(self) -> None:
        """End both."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self._server.stop()

    def _take(self, said: nds_pb2.NameTable) -> None:
        self._server.table = table.build(tables.hosts(said), self._home)
        self.said = said.SerializeToString()
        _LOG.debug("%d hosts", len(said.table))

"""What the agent asks of Envoy's admin interface: is it ready, drain, how many connections are left.

Readiness is Envoy's own statistics, as in Istio's agent: configuration has come, workers run, the server is live.
"""

from __future__ import annotations

from typing import Final

from agent import httpwire
from agent.bootstrap.stats import ACTIVE_CONNECTIONS, INBOUND_REQUESTS

_LIVE: Final = 0
_CDS: Final = "cluster_manager.cds.update_success"
_LDS: Final = "listener_manager.lds.update_success"
_REJECTED: Final = ("cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected")
_STATE: Final = "server.state"
_WORKERS: Final = "listener_manager.workers_started"
_FILTER: Final = (
    r"^(server\.state|listener_manager\.workers_started|"
    r"cluster_manager\.cds\.update_(success|rejected)|listener_manager\.lds\.update_(success|rejected))$"
)
_OWN_LISTENERS: Final = ("admin", "0.0.0.0_15021", "0.0.0.0_15090", "worker_")


class EnvoyAdmin:
    """Envoy's admin interface on loopback."""

    def __init__(self, port: int) -> None:
        """Ask at this port."""
        self.target = httpwire.Target("127.0.0.1", port)
        self._configured = False

    async def unready(self) -> str:
        """Why Envoy is not ready to take traffic; empty if it is."""
        try:
            stats = await self.stats(_FILTER)
        except httpwire.HttpError as error:
            return f"Envoy's admin interface does not answer: {error}"
        self._configured = self._configured or (stats.get(_CDS, 0) > 0 and stats.get(_LDS, 0) > 0)
        if not self._configured:
            return _unconfigured(stats)
        if not stats.get(_WORKERS):
            return "Envoy's workers have not started yet"
        if stats.get(_STATE) != _LIVE:
            return f"Envoy is not live (server.state {stats.get(_STATE)})"
        return ""

    def restarted(self) -> None:
        """A new Envoy runs: it has to get its configuration anew."""
        self._configured = False

    async def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match this regular expression.

        Raises:
            httpwire.HttpError: Envoy does not answer, or refuses.
        """
        response = await httpwire.request(self.target, "GET", f"/stats?filter={_quoted(pattern)}")
        if response.status != httpwire.OK:
            raise httpwire.HttpError(f"/stats answered {response.status}")
        pairs = (line.rpartition(": ") for line in response.body.decode().splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    async def drain(self, *, inbound_only: bool, keep_listening: bool) -> None:
        """Begin a graceful drain: responses close their connections, listeners close after ``--drain-time-s``.

        Raises:
            httpwire.HttpError: Envoy does not answer, or refuses.
        """
        path = "/drain_listeners?" + "inboundonly&" * inbound_only + "graceful" + "&skip_exit" * keep_listening
        response = await httpwire.request(self.target, "POST", path)
        if response.status != httpwire.OK:
            raise httpwire.HttpError(f"{path} answered {response.status}")

    async def active_connections(self) -> int:
        """Downstream connections, without those of admin, probes and Prometheus.

        Raises:
            httpwire.HttpError: Envoy does not answer, or refuses.
        """
        stats = await self.stats(rf"^listener\..*\.{ACTIVE_CONNECTIONS}$")
        return sum(value for name, value in stats.items() if not any(own in name for own in _OWN_LISTENERS))

    async def inbound_requests(self) -> int:
        """Requests, and connections of other protocols than HTTP, that the app is answering now.

        Raises:
            httpwire.HttpError: Envoy does not answer, or refuses.
        """
        stats = await self.stats(INBOUND_REQUESTS)
        return sum(stats.values())


def _unconfigured(stats: dict[str, int]) -> str:
    came = f"CDS {stats.get(_CDS, 0)}, LDS {stats.get(_LDS, 0)} accepted"
    if any(stats.get(name) for name in _REJECTED):
        return f"configuration came from istiod but was rejected ({came})"
    return f"no configuration from istiod yet ({came})"


def _quoted(pattern: str) -> str:
    return "".join(c if c.isalnum() or c in "._-~" else f"%{ord(c):02X}" for c in pattern)

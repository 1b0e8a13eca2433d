"""What the mesh page asks of the running control plane, each time anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crds.diagnostic import Diagnostic, Position
from crds.key import ConfigKey
from istiod.ads.server import ProxyStatus
from istiod.config.origin import Origin
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.mesh.context import MeshContext
from istiod.meshpage.configuration import Origins
from istiod.meshpage.scrape import Target
from wire import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Functions into the parts. ``context`` is None until the mesh has been built."""

    context: Callable[[], MeshContext | None]
    proxies: Callable[[], Sequence[ProxyStatus]]
    target: Callable[[Proxy], ResourceSet]
    """What a proxy should have now; only to be asked while there is a context."""
    findings: Callable[[], Sequence[Diagnostic]]
    position: Callable[[ConfigKey, str], Position | None]
    """Where a field of an object stands in a file; None where there are no files."""

    def cause(self, origin: Origin) -> str:
        """An object and its field as the user finds it: with file and line where there are files."""
        place = self.position(origin.key, origin.field)
        said = f"{origin.key} {origin.field}".rstrip()
        return f"{said} ({place})" if place is not None else said

    def origins(self) -> Origins:
        """Of the mesh as it is now."""
        context = self.context()
        services = context.model.registry.services if context is not None else ()
        hosts = {each.host: each.origin for each in reversed(services)}

        def of_port(number: int) -> Sequence[Origin]:
            return [each.origin for each in services if any(port.number == number for port in each.ports)]

        return Origins(cause=self.cause, of_host=hosts.get, of_port=of_port)

    def targets(self) -> list[Target]:
        """Connected proxies as their metrics are asked for."""
        return [_target(each) for each in self.proxies()]


def _target(status: ProxyStatus) -> Target:
    node, peer = status.proxy.node, status.proxy.peer
    namespace = peer.identity.namespace if peer.identity is not None else node.namespace
    host = peer.address.rpartition(":")[0].strip("[]")
    where = f"[{host}]" if ":" in host else host
    return Target(name=f"{node.name}.{node.namespace}", namespace=namespace, address=f"{where}:{names.PROMETHEUS_PORT}")

"""Which Gateways name credentials of the pod (``sds://...``) that a connected gateway's pod does not serve (row E7).

A socket is in the pod, so only its proxy can say whether one is there: it does in its metadata. That such a server is
left out there is istiod.mesh.gateways' doing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crds.diagnostic import Code, Diagnostic, error
from istiod.config.proxy import Proxy
from istiod.mesh import credentials, places
from istiod.mesh.context import MeshContext
from istiod.mesh.gateway_servers import Gateway, GatewayIndex, Server
from wire import names
from wire.node import NodeType

_SHOWN = 3


def findings(context: MeshContext, proxies: Iterable[Proxy]) -> Iterator[Diagnostic]:
    """An error for each server that some of these proxies leave out for want of a socket."""
    naming = [(one, server) for one in context.gateways.gateways for server in one.servers if _external(server)]
    if not naming:
        return
    index = GatewayIndex(gateways=tuple(dict.fromkeys(one for one, _ in naming)))
    lacking: dict[str, set[str]] = {}
    for proxy in proxies:
        if proxy.node.type is NodeType.ROUTER and proxy.node.metadata.get(names.METADATA_CREDENTIAL) != "true":
            for matched in _matched(context, index, proxy):
                lacking.setdefault(matched, set()).add(f"{proxy.node.name}.{proxy.node.namespace}")
    for one, server in naming:
        if pods := sorted(lacking.get(one.id, ())):
            yield _finding(one, server, pods)


def _external(server: Server) -> list[str]:
    context = server.context
    wanted = (*credentials.certificates(context), *credentials.roots(context)) if context is not None else ()
    return [name for name in wanted if credentials.is_external(name)]


def _matched(context: MeshContext, index: GatewayIndex, proxy: Proxy) -> tuple[str, ...]:
    node = proxy.node
    place = places.of(node, context.backends.pods.get((node.namespace, node.name)))
    home = node.namespace if context.model.settings.features.scope_gateways else ""
    return index.matched(dict(place.labels), home)


def _finding(one: Gateway, server: Server, pods: list[str]) -> Diagnostic:
    more = f" and {len(pods) - _SHOWN} more" if len(pods) > _SHOWN else ""
    socket, where = names.CREDENTIAL_SOCKET.removeprefix("."), ", ".join(pods[:_SHOWN])
    message = (
        f"{_external(server)[0]} is served at {socket} of the gateway's pod, and there is none in {where}{more}: "
        f"the server on port {server.port} is left out there"
    )
    return error(Code.UNSERVED_CREDENTIAL, one.key, "spec.servers", message)

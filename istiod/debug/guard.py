"""Who may see the debug pages: they show the whole mesh (SEC9).

Loopback is the pod itself, and whoever may forward a port into it (``istioctl``, Kiali). From elsewhere a
service-account token is needed: one of the root namespace sees everything, any other its own proxies' configuration.
Readiness, version and metrics are open to all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from istiod.config.protocols import TokenVerifier, UnavailableError

_GUARDED: Final = "/debug"
_OWN: Final = frozenset(f"/debug/{name}" for name in ("config_dump", "ecdsz", "edsz", "ndsz"))
_BEARER: Final = "Bearer "

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def middleware(verifier: Callable[[], TokenVerifier | None] | None, root_namespace: str) -> Middleware:
    """What stands before every page; without a verifier (a mesh on one machine) all pages are open."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if verifier is None or not request.path.startswith(_GUARDED) or local(request.remote):
            return await handler(request)
        refusal = await _refusal(request, verifier(), root_namespace)
        return refusal or await handler(request)

    return guarded


async def _refusal(request: web.Request, verifier: TokenVerifier | None, root_namespace: str) -> web.Response | None:
    given = request.headers.getall("Authorization", [])
    if len(given) != 1 or not given[0].startswith(_BEARER):
        return web.Response(status=401, text="a service-account token is needed, or a port-forward\n")
    try:
        identity = await verifier.verify(given[0].removeprefix(_BEARER).strip()) if verifier else None
    except UnavailableError as error:
        return web.Response(status=503, text=f"{error}\n")
    if identity is None:
        return web.Response(status=401, text="the token proves no identity for this mesh\n")
    if identity.namespace == root_namespace:
        return None
    own = request.query.get("proxyID", "").endswith(f".{identity.namespace}")
    if request.path in _OWN and own:
        return None
    return web.Response(
        status=403, text="only for the root namespace; config_dump, ecdsz, edsz and ndsz of own proxies\n"
    )


def local(address: str | None) -> bool:
    """Whether whoever asks is in the pod, or came by a port-forward."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback

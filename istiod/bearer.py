"""Who calls, by the service-account token that a call carries: one answer for xDS and for the certificate service."""

from __future__ import annotations

from istiod.config.protocols import TokenVerifier, UnavailableError
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from wire.spiffe import Identity


async def proven(request: Request, verifier: TokenVerifier) -> Identity:
    """The identity that the call's bearer token proves.

    Raises:
        RpcError: UNAUTHENTICATED where there is no token, or it proves nothing; UNAVAILABLE where nobody can say.
    """
    token = request.bearer()
    if not token:
        raise RpcError(Code.UNAUTHENTICATED, "no bearer token in the metadata 'authorization'")
    try:
        identity = await verifier.verify(token)
    except UnavailableError as error:
        raise RpcError(Code.UNAVAILABLE, str(error)) from error
    if identity is None:
        raise RpcError(Code.UNAUTHENTICATED, "the token proves no identity for this mesh")
    return identity

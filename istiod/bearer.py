"""Who calls, by a service-account token or by a client certificate: one answer for xDS and the certificate service."""

from __future__ import annotations

import functools
from typing import Final

from cryptography import x509

from istiod.config.protocols import TokenVerifier, UnavailableError
from istiod.grpcserver.request import Request
from istiod.grpcserver.status import Code, RpcError
from wire import names, spiffe
from wire.certificates import UNREADABLE
from wire.spiffe import Identity

REMEMBERED: Final = 1_024
"""Certificates of which the names are remembered: a client that is refused comes again with the same one."""


async def proven(request: Request, verifier: TokenVerifier) -> Identity:
    """The identity that the call's bearer token proves.

    Raises:
        RpcError: UNAUTHENTICATED where there is no token, or it proves nothing; UNAVAILABLE where nobody can say;
            PERMISSION_DENIED where the call says that it is of another cluster, whose tokens are not for us to judge.
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
    if any(said not in ("", names.CLUSTER_ID) for said in request.values(b"clusterid")):
        raise RpcError(Code.PERMISSION_DENIED, f"the metadata 'clusterid' is not {names.CLUSTER_ID}, which this is")
    return identity


def shown(certificate: bytes | None) -> Identity:
    """The identity in a client's certificate (DER), which the transport has verified.

    Raises:
        ValueError: there is none, or it has not exactly one URI, or that is no SPIFFE id.
    """
    uris = _uris(certificate)
    if len(uris) != 1:
        raise ValueError("the client's certificate holds no SPIFFE id")
    return spiffe.parse(uris[0])


@functools.lru_cache(REMEMBERED)
def _uris(certificate: bytes | None) -> tuple[str, ...]:
    if certificate is None:
        return ()
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        return ()
    return tuple(found.get_values_for_type(x509.UniformResourceIdentifier))

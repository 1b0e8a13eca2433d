"""Who is on the other end of a stream: what the transport proved, against what the node claims (features row D10).

The proof wins. An empty claim is filled from it and never means "anything goes" (SEC5); a different claim is refused
with both named, so that a wrong service account is seen in one line. That the pod of the claim exists and has that
account is for the registry to check.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cryptography import x509

from istiod.config.proxy import Peer, Proxy
from wire import spiffe
from wire.node import Node

AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC's ``auth_context()`` gives."""


class UnauthenticatedError(Exception):
    """The transport proved no identity of this mesh."""


class ClaimError(Exception):
    """The node claims to be somebody else than the transport proved."""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Decides for the streams of one server.

    ``trust_domains`` are those whose identities are of this mesh; empty: all that the server's roots vouch for.
    """

    trust_domains: frozenset[str] = frozenset()

    def peer(self, address: str, context: AuthContext) -> Peer:
        """The peer of a connection; its identity is None on a plaintext one.

        Raises:
            UnauthenticatedError: a TLS connection without exactly one SPIFFE identity of this mesh.
        """
        if list(context.get("transport_security_type", ())) == [b"insecure"]:
            return Peer(address=address, identity=None)
        uris = [uri.decode("ascii", "replace") for uri in context.get("peer_spiffe_id", ())]
        if len(uris) != 1:
            raise UnauthenticatedError("the client's certificate holds no SPIFFE id")
        try:
            identity = spiffe.parse(uris[0])
        except ValueError as error:
            raise UnauthenticatedError(str(error)) from error
        if self.trust_domains and identity.trust_domain not in self.trust_domains:
            raise UnauthenticatedError(f"{identity} is of another trust domain than {sorted(self.trust_domains)}")
        return Peer(address=address, identity=identity)


def admit(peer: Peer, node: Node) -> Proxy:
    """The proxy, if its claims agree with the proof; what it does not claim is filled from the proof.

    Raises:
        ClaimError: namespace or service account differ.
    """
    identity = peer.identity
    if identity is None:
        return Proxy(peer=peer, node=node)
    claimed = (node.namespace or identity.namespace, node.service_account or identity.service_account)
    if claimed != (identity.namespace, identity.service_account):
        raise ClaimError(f"the certificate is of {identity}, the node claims ns/{claimed[0]}/sa/{claimed[1]}")
    return Proxy(peer=peer, node=replace(node, namespace=claimed[0], service_account=claimed[1]))


def expires(context: AuthContext) -> dt.datetime | None:
    """When the client's certificate is over; None for a plaintext connection."""
    for pem in context.get("x509_pem_cert", ()):
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return None


def require_loopback(address: str) -> None:
    """Plaintext xDS carries everybody's configuration to whoever asks: only this machine may (SEC10).

    Raises:
        ValueError: the address (HOST:PORT) is not on loopback.
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError(f"plaintext xDS is served on loopback only, not on {address!r}; use mTLS there")

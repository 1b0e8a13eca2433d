"""Who is on the other end of a stream: what the transport proved, against what the node claims (features row D10).

The proof wins. An empty claim is filled from it and never means "anything goes" (SEC5); a different claim is refused
with both named, so that a wrong service account is seen in one line. That the pod of the claim exists and has that
account is for the registry to check.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from istiod import bearer
from istiod.config.protocols import TokenVerifier
from istiod.config.proxy import Peer, Proxy
from istiod.grpcserver.request import Request
from istiod.grpcserver.stream import Client
from wire import names, spiffe
from wire.node import Node


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

    def peer(self, client: Client) -> Peer:
        """The peer of a connection that has a certificate, or is plaintext: then its identity is None.

        Raises:
            UnauthenticatedError: the certificate has not exactly one URI, or that is no SPIFFE id of this mesh.
        """
        if not client.secure:
            return Peer(address=client.address, identity=None)
        try:
            identity = bearer.shown(client.certificate)
        except ValueError as error:
            raise UnauthenticatedError(str(error)) from error
        return self._of_this_mesh(client, identity)

    async def by_token(self, client: Client, request: Request, verifier: TokenVerifier | None) -> Peer:
        """The peer of a connection without a certificate: its service account's token says who it is.

        Raises:
            UnauthenticatedError: there is no token, or it is of another mesh.
            RpcError: see bearer.proven.
        """
        if verifier is None or not request.bearer():
            raise UnauthenticatedError(
                "neither a client certificate nor a bearer token in the metadata 'authorization'"
            )
        return self._of_this_mesh(client, await bearer.proven(request, verifier))

    def _of_this_mesh(self, client: Client, identity: spiffe.Identity) -> Peer:
        if self.trust_domains and identity.trust_domain not in self.trust_domains:
            raise UnauthenticatedError(f"{identity} is of another trust domain than {sorted(self.trust_domains)}")
        return Peer(address=client.address, identity=identity)


def admit(peer: Peer, node: Node) -> Proxy:
    """The proxy, if its claims agree with the proof; what it does not claim is filled from the proof.

    Raises:
        ClaimError: namespace or service account differ, or it is of another cluster.
    """
    identity = peer.identity
    if identity is None:
        return Proxy(peer=peer, node=node)
    claimed = (node.namespace or identity.namespace, node.service_account or identity.service_account)
    if claimed != (identity.namespace, identity.service_account):
        raise ClaimError(f"the certificate is of {identity}, the node claims ns/{claimed[0]}/sa/{claimed[1]}")
    if node.cluster_id != names.CLUSTER_ID:
        raise ClaimError(f"the node claims to be of cluster {node.cluster_id[:100]!r}, this is {names.CLUSTER_ID!r}")
    return Proxy(peer=peer, node=replace(node, namespace=claimed[0], service_account=claimed[1]))


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

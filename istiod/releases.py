"""What replicas ask each other, put together: mesh, proxies, CA, addresses, each of which knows nothing of the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca.authority import CsrRefusedError
from istiod.ca.signer import Signs
from istiod.config.protocols import TokenVerifier
from istiod.drain.ages import AgeService, Peers
from istiod.drain.replicas import Proof, Replicas
from istiod.drain.service import DrainService, Holding
from istiod.mesh import departure
from istiod.mesh.context import MeshContext
from istiod.mesh.departure import Departure, Replica
from istiod.settings import ClusterSettings
from wire import spiffe
from wire.spiffe import Identity

_LIFE: Final = dt.timedelta(minutes=5)
"""Of a certificate that a replica shows to another: it is made for one question."""


class Releases:
    """What one replica knows of itself and of the others, for its services."""

    def __init__(
        self, own: ClusterSettings, context: Callable[[], MeshContext | None], ca: Signs, now: Callable[[], dt.datetime]
    ) -> None:
        self._own = own
        self._context = context
        self._ca = ca
        self._now = now

    def service(self, holder: Holding, verifier: TokenVerifier) -> DrainService:
        """The service; ``holder`` says who may send to a pod, ``verifier`` recognises pods by token."""
        replicas = Replicas(self._others, self._proof)
        return DrainService(self._leaving, holder, verifier, ours=self._ours, replicas=replicas.asks)

    def ages(self, age: Callable[[], float], able: Callable[[], bool]) -> AgeService:
        """Tells others how old what this replica knows is, while it is able to take proxies."""
        return AgeService(age, able, self._ours)

    def peers(self) -> Peers:
        """Those whom our proxies would go to."""
        return Peers(self._to, self._proof)

    def _to(self) -> Sequence[str]:
        context, own = self._context(), self._own
        found = () if context is None else departure.peers(context, own.namespace, own.pod_name)
        return [each.address for each in found]

    def _leaving(self, namespace: str, pod: str) -> Departure | None:
        context = self._context()
        return None if context is None else departure.of(context, namespace, pod)

    def _replicas(self) -> tuple[Replica, ...]:
        context = self._context()
        return () if context is None else tuple(departure.replicas(context, self._own.namespace, self._own.pod_name))

    def _ours(self, caller: Identity) -> bool:
        return any(str(caller) == each.identity for each in self._replicas())

    def _others(self) -> Sequence[str]:
        return [each.address for each in self._replicas()]

    def _proof(self) -> Proof:
        own = self._leaving(self._own.namespace, self._own.pod_name)
        if own is None:
            raise LookupError(f"the mesh has no pod {self._own.namespace}/{self._own.pod_name}")
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        try:
            *chain, roots = self._ca.sign(pem, spiffe.parse(own.identity), _LIFE, self._now())
        except CsrRefusedError as error:
            raise LookupError(f"our own CA gives no certificate: {error}") from error
        form = serialization.PrivateFormat.PKCS8
        return Proof(
            key=key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()),
            chain="".join(chain).encode(),
            roots=roots.encode(),
            name=f"istiod.{self._own.namespace}.svc",
        )

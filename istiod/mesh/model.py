"""What every scope is made from: settings, services, policies, and the little that a scope may know of endpoints.

The first half of the mesh (registry, policies, clusters) fills it in; routes, listeners and gateways read it. Indexes
of VirtualServices and Gateways stand beside it in the MeshContext, since they are built with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from istiod.config.secret_rights import Readers
from istiod.mesh.authorization import AuthorizationIndex
from istiod.mesh.credentials import CredentialIndex
from istiod.mesh.destination_rules import PolicyIndex
from istiod.mesh.endpoint import EndpointTable
from istiod.mesh.loggers import Loggers
from istiod.mesh.peer_authentication import PeerAuthenticationIndex
from istiod.mesh.rate_limits import RateLimitIndex
from istiod.mesh.recall import Recall
from istiod.mesh.registry import Registry
from istiod.mesh.request_authentication import RequestAuthenticationIndex
from istiod.mesh.settings import MeshSettings
from istiod.mesh.sidecars import SidecarIndex
from istiod.mesh.telemetry import TelemetryIndex
from istiod.mesh.tracers import NOBODY, Tracers


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a scope may know of a host's endpoints: it changes seldom, and only then scopes change.

    ``identities`` are the SPIFFE ids of the endpoints, sorted (subject alternative names of auto mTLS). ``addresses``
    are filled for headless services and those without a selector only, by service port number: TCP listeners of the
    former match by pod address, workloads of the latter are found by it. ``tls`` is said only where clients keep the
    original destination: there are endpoints, and every one speaks mesh mTLS.
    """

    identities: tuple[str, ...] = ()
    addresses: tuple[tuple[int, tuple[str, ...]], ...] = ()
    tls: bool = False


EMPTY_SUMMARY = Summary()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """The mesh as scopes see it. Equal parts of two models in a row are the same objects.

    ``summaries`` is by (host, namespace). ``declared`` holds the endpoints that ServiceEntries name themselves (they
    stand inside DNS clusters); it does not change with pods.
    """

    settings: MeshSettings = field(default_factory=MeshSettings)
    registry: Registry = field(default_factory=Registry)
    policies: PolicyIndex = field(default_factory=PolicyIndex)
    peers: PeerAuthenticationIndex = field(default_factory=PeerAuthenticationIndex)
    summaries: Mapping[tuple[str, str], Summary] = field(default_factory=dict)
    declared: EndpointTable = field(default_factory=EndpointTable)
    sidecars: SidecarIndex = field(default_factory=SidecarIndex)
    credentials: CredentialIndex = field(default_factory=CredentialIndex)
    authorizations: AuthorizationIndex = field(default_factory=AuthorizationIndex)
    tokens: RequestAuthenticationIndex = field(default_factory=RequestAuthenticationIndex)
    secret_readers: Readers = None
    rate_limits: RateLimitIndex = field(default_factory=RateLimitIndex)
    tracers: Tracers = NOBODY
    telemetry: TelemetryIndex = field(default_factory=TelemetryIndex)
    loggers: Loggers = field(default_factory=Loggers)

    def of_clients(self, namespace: str, selectors: tuple[str, ...], recall: Recall) -> Model:
        """The mesh as workloads see it for whom these selectors hold; itself where no DestinationRule selects them."""
        if not self.policies.selecting:
            return self
        name = ("of clients", namespace, selectors)
        policies = recall.of_many(name, (self.policies,), lambda: self.policies.of_clients(namespace, selectors))
        return self if policies is self.policies else replace(self, policies=policies)

    def summary(self, host: str, namespace: str) -> Summary:
        """The summary of a host's endpoints; the empty one when it has none."""
        return self.summaries.get((host, namespace), EMPTY_SUMMARY)

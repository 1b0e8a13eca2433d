"""The mesh as one value: built from a snapshot, incrementally, and asked for scopes and views.

The only module that knows both halves: the model (services, endpoints, policies) and the indexes of routes and
gateways. Compiling scopes is istiod.envoy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial

from crds.diagnostic import Diagnostic
from crds.key import NETWORKING, SECURITY, ConfigKey
from istiod.config.gateway_names import Addresses
from istiod.config.proxy import Proxy
from istiod.config.store import ConfigSnapshot, Kind
from istiod.mesh import (
    access_logs,
    authorization,
    backends,
    credential_checks,
    credentials,
    destination_rules,
    endpoints,
    envoy_filters,
    failover,
    findings,
    gateway_servers,
    gateways,
    inbound,
    ingress_places,
    loggers,
    mesh_config,
    metrics,
    networks,
    outbound,
    peer_authentication,
    places,
    rate_limits,
    request_authentication,
    scope_keys,
    secret_users,
    selected,
    sidecars,
    sources,
    telemetry,
    touched,
    tracers,
    tracing,
    virtual_service_checks,
    virtual_services,
    zones,
)
from istiod.mesh.authorization import AuthorizationIndex
from istiod.mesh.backends import Backends, PodName
from istiod.mesh.credentials import CredentialIndex
from istiod.mesh.destination_rules import PolicyIndex
from istiod.mesh.endpoint import EndpointTable, View
from istiod.mesh.endpoints import HostName
from istiod.mesh.envoy_filters import EnvoyFilterIndex
from istiod.mesh.findings import Findings
from istiod.mesh.gateway_servers import GatewayIndex
from istiod.mesh.inbound import Place
from istiod.mesh.memo import Memo
from istiod.mesh.model import Model, Summary
from istiod.mesh.peer_authentication import PeerAuthenticationIndex
from istiod.mesh.scope import Scope, ScopeKey
from istiod.mesh.secret_users import SecretUsers
from istiod.mesh.settings import MeshSettings
from istiod.mesh.sidecars import SidecarIndex
from istiod.mesh.sources import Sources
from istiod.mesh.virtual_services import VirtualServiceIndex
from istiod.mesh.workloads import PodWorkload
from wire.node import NodeType

_RULES: Kind = (NETWORKING, "DestinationRule")
_PEERS: Kind = (SECURITY, "PeerAuthentication")
_AUTHORIZATIONS: Kind = (SECURITY, authorization.KIND)
_ROUTES: Kind = (NETWORKING, "VirtualService")
_GATEWAYS: Kind = (NETWORKING, "Gateway")
_SIDECARS: Kind = (NETWORKING, "Sidecar")
_PATCHES: Kind = (NETWORKING, "EnvoyFilter")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshContext:
    """The model, the indexes beside it, the endpoints (which no scope holds), and what was found wrong.

    ``node_local`` and ``failover_labels`` say what of a proxy's place any service or policy looks at.
    """

    model: Model = field(default_factory=Model)
    virtual_services: VirtualServiceIndex = field(default_factory=VirtualServiceIndex)
    gateways: GatewayIndex = field(default_factory=GatewayIndex)
    envoy_filters: EnvoyFilterIndex = field(default_factory=EnvoyFilterIndex)
    endpoints: EndpointTable = field(default_factory=EndpointTable)
    diagnostics: tuple[Diagnostic, ...] = ()
    findings: Findings = field(default_factory=Findings)
    sources: Sources = field(default_factory=Sources)
    backends: Backends = field(default_factory=Backends)
    node_local: bool = False
    failover_labels: frozenset[str] = frozenset()
    secret_users: SecretUsers = secret_users.NOBODY
    gateway_addresses: Addresses = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo)


def build(
    snapshot: ConfigSnapshot, previous: MeshContext | None = None, changed: frozenset[ConfigKey] = frozenset()
) -> MeshContext:
    """The mesh of a snapshot.

    An event of slices and pods only touches endpoints, unless it changes what scopes know of them (model.Summary).

    Args:
        snapshot: all objects.
        previous: the context before, whose unchanged parts are reused (and are then the same objects).
        changed: the keys that differ from ``previous``'s snapshot; ignored without ``previous``.
    """
    before = previous or MeshContext()
    kinds = None if previous is None else frozenset((key.group, key.kind) for key in changed)
    settings, of_settings = _settings(snapshot, before, kinds)
    if settings is not before.model.settings:
        kinds = None
    step = _Step(snapshot=snapshot, before=before, changed=changed, kinds=kinds, settings=settings)
    found = step.sources()
    policies, of_policies = step.policies()
    peers, of_peers = step.peers()
    table, summaries, seen, touched_pods = step.endpoints(found, peers, policies.passing)
    routes, servers = step.routes()
    patches = step.patches()
    model = _model(
        before.model,
        Model(
            settings=settings,
            registry=found.registry,
            policies=policies,
            peers=peers,
            summaries=summaries,
            declared=endpoints.named(found.declared, before.model.declared, table, found.registry),
            sidecars=step.sidecars(),
            credentials=step.credentials(servers, policies),
            authorizations=step.authorizations(found),
            tokens=step.tokens(found),
            secret_readers=snapshot.secret_readers,
            rate_limits=step.rate_limits(),
            tracers=step.tracers(found),
            telemetry=step.telemetry(),
            loggers=step.loggers(found),
        ),
    )
    pairs = ((model, before.model), (routes, before.virtual_services), (servers, before.gateways))
    same = all(now is old for now, old in (*pairs, (patches, before.envoy_filters)))
    of_cross = before.findings.cross
    if not same:
        checks = virtual_service_checks.findings(model, routes, servers, before.memo.recall)
        of_secrets = credential_checks.findings(model, servers)
        of_access = (*model.tokens.findings, *authorization.findings(model.authorizations))
        of_places = ingress_places.findings(model, before.memo.recall)
        of_spans = tracing.findings(model.tracers, snapshot.mesh_config, model.telemetry.read.values())
        of_logs = access_logs.findings(model.telemetry, model.loggers, snapshot.mesh_config)
        of_metrics = metrics.findings(model.telemetry, settings.metrics)
        of_rest = (*of_access, *of_places, *of_spans, *telemetry.findings(model.telemetry), *of_logs, *of_metrics)
        of_cross = (*findings.cross(snapshot, model), *checks, *of_secrets, *patches.findings(), *of_rest)
    everything = Findings(
        settings=of_settings,
        sources=found.diagnostics,
        policies=of_policies,
        peers=of_peers,
        cross=of_cross,
        sidecars=_of_sidecars(before, model.sidecars, seen, touched_pods),
        pods=findings.of_pods(before.findings.pods, seen.pods, touched_pods),
        entries=before.findings.entries
        if found.registry is before.model.registry and seen.entries is before.backends.entries
        else tuple(selected.findings(found.registry, seen)),
    )
    names = failover.labels(model)
    return MeshContext(
        model=model,
        virtual_services=routes,
        gateways=servers,
        envoy_filters=patches,
        endpoints=table,
        diagnostics=before.diagnostics if everything == before.findings else everything.all(),
        findings=everything,
        sources=found,
        backends=seen,
        node_local=failover.by_node(names, found.registry.services),
        failover_labels=names,
        secret_users=step.secret_users(),
        gateway_addresses=snapshot.gateway_addresses,
        memo=before.memo.without(touched_pods) if same else before.memo.next(),
    )


def _settings(
    snapshot: ConfigSnapshot, before: MeshContext, kinds: frozenset[Kind] | None
) -> tuple[MeshSettings, tuple[Diagnostic, ...]]:
    old = before.model.settings
    if kinds is not None and kinds.isdisjoint(mesh_config.KINDS):
        return old, before.findings.settings
    settings, found = mesh_config.read(snapshot, None if kinds is None else old)
    return (old if settings == old else settings), found


def _of_sidecars(
    before: MeshContext, index: SidecarIndex, seen: Backends, touched: frozenset[PodName]
) -> tuple[Diagnostic, ...]:
    """Findings about Sidecars: they also depend on the labels of the pods in their namespaces."""
    near = any(namespace in index.by_namespace for namespace, _ in touched)
    if index is before.model.sidecars and not near:
        return before.findings.sidecars
    return tuple(sidecars.findings(index, ((name[0], pod.labels) for name, pod in seen.pods.items())))


def _model(before: Model, now: Model) -> Model:
    """The model before where all parts are the same objects."""
    parts = (field.name for field in fields(Model))
    return before if all(getattr(before, part) is getattr(now, part) for part in parts) else now


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The parts of one build. ``kinds`` are the kinds with changes; None: everything has to be looked at."""

    snapshot: ConfigSnapshot
    before: MeshContext
    changed: frozenset[ConfigKey]
    kinds: frozenset[Kind] | None
    settings: MeshSettings

    def touches(self, *kinds: Kind) -> bool:
        """Whether objects of these kinds may have changed."""
        return self.kinds is None or not self.kinds.isdisjoint(kinds)

    def sources(self) -> Sources:
        """Services and what ServiceEntries declare."""
        if not self.touches(sources.SERVICES, sources.ENTRIES):
            return self.before.sources
        return sources.build(self.snapshot, self.settings, self.before.sources)

    def policies(self) -> tuple[destination_rules.PolicyIndex, tuple[Diagnostic, ...]]:
        """DestinationRules."""
        if not self.touches(_RULES):
            return self.before.model.policies, self.before.findings.policies
        return destination_rules.build(self.snapshot, self.settings, self.before.model.policies)

    def peers(self) -> tuple[PeerAuthenticationIndex, tuple[Diagnostic, ...]]:
        """PeerAuthentications."""
        if not self.touches(_PEERS):
            return self.before.model.peers, self.before.findings.peers
        index, found = peer_authentication.build(self.snapshot, self.settings.root_namespace)
        return (self.before.model.peers if index == self.before.model.peers else index), found

    def authorizations(self, found: Sources) -> AuthorizationIndex:
        """AuthorizationPolicies, and the services of their providers."""
        before = self.before.model.authorizations
        if not self.touches(_AUTHORIZATIONS) and found.registry is self.before.model.registry:
            return before
        return authorization.build(self.snapshot, self.settings, found.registry, before)

    def tokens(self, found: Sources) -> request_authentication.RequestAuthenticationIndex:
        """RequestAuthentications with the keys that were fetched for them, and the services that have keys."""
        before = self.before.model.tokens
        if not self.touches(*request_authentication.KINDS) and found.registry is self.before.model.registry:
            return before
        return request_authentication.build(self.snapshot, self.settings, found.registry, before)

    def sidecars(self) -> SidecarIndex:
        """Sidecars."""
        before, root = self.before.model.sidecars, self.settings.root_namespace
        return sidecars.build(self.snapshot, root, before) if self.touches(_SIDECARS) else before

    def patches(self) -> EnvoyFilterIndex:
        """EnvoyFilters."""
        before, root = self.before.envoy_filters, self.settings.root_namespace
        return envoy_filters.build(self.snapshot, root, before) if self.touches(_PATCHES) else before

    def credentials(self, servers: GatewayIndex, policies: PolicyIndex) -> CredentialIndex:
        """Secrets that Gateways and DestinationRules name."""
        before = self.before.model
        known = servers is self.before.gateways and policies is before.policies
        if known and not (self.touches(credentials.SECRETS) or self.touches(credentials.SPACES)):
            return before.credentials
        return credentials.build(self.snapshot, credential_checks.named(servers, policies), before.credentials)

    def rate_limits(self) -> rate_limits.RateLimitIndex:
        """LocalRateLimits."""
        before = self.before.model.rate_limits
        if not self.touches(rate_limits.KIND):
            return before
        return rate_limits.build(self.snapshot, self.settings.root_namespace, before)

    def tracers(self, found: Sources) -> tracers.Tracers:
        """Where spans may go."""
        before, settings = self.before.model, self.settings
        if found.registry is before.registry and settings is before.settings:
            return before.tracers
        made = tracers.resolve(settings.tracers, settings.default_tracer, found.registry, settings.features.environment)
        return before.tracers if made == before.tracers else made

    def loggers(self, found: Sources) -> loggers.Loggers:
        """Where access logs may go."""
        before, settings = self.before.model.loggers, self.settings
        return loggers.resolve(settings.loggers, settings.default_loggers, found.registry, before)

    def telemetry(self) -> telemetry.TelemetryIndex:
        """Telemetry objects."""
        before = self.before.model.telemetry
        if not self.touches(telemetry.KIND):
            return before
        return telemetry.build(self.snapshot, self.settings.root_namespace, before)

    def secret_users(self) -> SecretUsers:
        """Whom the API server has to be asked about; nobody where nobody is."""
        before = self.before.secret_users
        if self.snapshot.secret_readers is None or not self.touches(secret_users.PODS, *secret_users.RULES):
            return before
        return secret_users.build(self.snapshot, before, None if self.kinds is None else self.changed)

    def routes(self) -> tuple[VirtualServiceIndex, GatewayIndex]:
        """VirtualServices and Gateways."""
        routes, servers = self.before.virtual_services, self.before.gateways
        if self.touches(_ROUTES):
            routes = virtual_services.build(self.snapshot, self.settings, routes)
        if self.touches(_GATEWAYS):
            servers = gateway_servers.build(self.snapshot, servers)
        return routes, servers

    def endpoints(
        self, found: Sources, peers: PeerAuthenticationIndex, passing: frozenset[str]
    ) -> tuple[EndpointTable, Mapping[HostName, Summary], Backends, frozenset[PodName]]:
        """Endpoints, what scopes know of them, the index behind them, and the pods that are not what they were."""
        before = self.before
        old, registry = before.backends, found.registry
        everything = self.touches(backends.NODES)
        if everything:
            seen = backends.build(self.snapshot, self.settings)
            pods = frozenset(n for n in old.pods.keys() | seen.pods.keys() if old.pods.get(n) != seen.pods.get(n))
            names = frozenset[HostName]()
        else:
            seen, moved = backends.update(old, self.snapshot, self.changed, self.settings)
            names, pods = frozenset(touched.hosts(before.sources, found, moved, self.settings)), moved.pods
        if everything or passing != before.model.policies.passing or peers.may_differ_from(before.model.peers):
            names = frozenset((s.host, s.namespace) for s in registry.services) | before.endpoints.leaves.keys()
        inputs = endpoints.Inputs(
            registry=registry,
            declared=found.declared,
            backends=seen,
            peers=peers if peers.disables else None,
            passing=passing,
            select_entries=self.settings.features.select_entries,
        )
        table = endpoints.update(before.endpoints, inputs, names)
        summaries = endpoints.summarize(before.model.summaries, inputs, table, names)
        return table, summaries, seen, pods


def scope(context: MeshContext, proxy: Proxy) -> Scope:
    """What a proxy gets. Proxies alike share it: the same objects, also across contexts while nothing changed."""
    name = (proxy.node.namespace, proxy.node.name)
    return context.memo.of_proxy(name, proxy, lambda: _scope(context, proxy))


def has_scope(context: MeshContext, proxy: Proxy) -> bool:
    """Whether ``scope`` is quick, since most of this one's was made for another proxy."""
    _, _, key = _keyed(context, proxy)
    return key in context.memo.outbound


def _keyed(context: MeshContext, proxy: Proxy) -> tuple[PodWorkload | None, Place, ScopeKey]:
    pod = context.backends.pods.get((proxy.node.namespace, proxy.node.name))
    inputs = context.model, context.virtual_services, context.gateways, context.envoy_filters
    return pod, *scope_keys.placed(inputs, proxy, pod, context.memo.recall)


def _scope(context: MeshContext, proxy: Proxy) -> Scope:
    model, memo, node = context.model, context.memo, proxy.node
    pod, place, key = _keyed(context, proxy)
    patches = context.envoy_filters.choose(node, node.namespace, place.labels, memo.recall)
    if node.type is NodeType.ROUTER:
        router = partial(gateways.scope, model, context.virtual_services, context.gateways, key, recall=memo.recall)
        return memo.of_parts(model.settings, memo.of_key(key, router), None, patches)
    known = (node, pod, model.tracers, model.loggers, *inbound.inputs(model, node.namespace))
    shape = memo.recall.of_each(
        "shape", (node.namespace, node.name), known, lambda: inbound.shape(model, place, memo.recall)
    )
    out = memo.of_key(key, partial(outbound.scope, model, context.virtual_services, key, recall=memo.recall))
    own = memo.of_shape(shape, model.settings, lambda: inbound.scope(shape, model.settings))
    return memo.of_parts(model.settings, out, ingress_places.beside(own, out, memo.recall), patches)


def view(context: MeshContext, proxy: Proxy) -> View:
    """Where a proxy looks from, for its endpoints."""
    pod, model = context.backends.pods.get((proxy.node.namespace, proxy.node.name)), context.model
    doors = networks.known(model.settings.networks, model.registry, context.gateway_addresses, context.memo.recall)
    seen = places.view(proxy.node, pod, context.failover_labels, doors, node_local=context.node_local)
    return zones.seen(seen, model, context.endpoints, lambda: _keyed(context, proxy)[:2], context.memo.recall)

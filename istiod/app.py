"""Builds every part of the control plane from its settings, wires them, and supervises them until it is told to stop.

The only module that knows all parts. Parts meet through istiod.config.protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Final

from crds.diagnostic import Diagnostic
from crds.service_entry import WorkloadEntry
from istiod import addresses, admission, apart, checks, expiry, gateway_names, instruments, pressure, unblocked
from istiod.ads import auth
from istiod.ads.auth import Authenticator
from istiod.ads.quota import StreamLimits
from istiod.ads.server import AdsService
from istiod.ca import authority, following
from istiod.ca import counts as ca_counts
from istiod.ca import server as ca_server
from istiod.ca.renewal import Renewals
from istiod.ca.serving import ServingCertificate
from istiod.ca.signer import Signer
from istiod.config.protocols import TokenVerifier
from istiod.config.store import ConfigStore
from istiod.debug import lag
from istiod.debug import server as debug_server
from istiod.debug.counts import Counts
from istiod.debug.findings import Findings
from istiod.drain.blind import Blind
from istiod.folders import Folders
from istiod.gate import gate
from istiod.grpcserver import tls
from istiod.grpcserver.server import Server, bound
from istiod.jwks.fetch import Fetcher
from istiod.jwks.guard import Guard
from istiod.jwks.refresh import Refresher
from istiod.jwks.services import addresses as service_addresses
from istiod.mesh import claims, networks, request_authentication, secret_users
from istiod.pages import Pages
from istiod.pipeline import Pipeline
from istiod.refusals import Refusals
from istiod.releases import Releases
from istiod.settings import Settings
from istiod.source import Source, View
from istiod.supervision import Leaving, Lines, Running, SettingsError, now, say
from webhook import counts as webhook_counts
from webhook import server as webhooks
from webhook.values import Surroundings, injector_name
from wire.exposition import Family
from wire.spiffe import Identity

PATIENCE: Final = 6.0
"""Seconds for which the start waits for keys, rights and addresses of gateways: a little more than one may take."""
GENERATIONS: Final = (50_000, 20, 20)
"""When the garbage collector looks: Python's 700, 10, 10 are for programs that make garbage with cycles. Ours makes
hardly any, and spent about a tenth of the CPU of a first configuration on looking for it."""


class ControlPlane:
    """All parts of one process, made but not started."""

    def __init__(self, settings: Settings, log: unblocked.Unblocked | None = None) -> None:
        """Make the parts; inside the event loop. ``log`` is where standard error leads, if that is one of ours.

        Raises:
            SettingsError: there is no way to the source.
        """
        self._settings = settings
        self._log = log
        self._source = make_source(settings)
        self._store = ConfigStore(
            features=settings.features,
            mesh_config=settings.cluster.mesh_config,
            selected=settings.kubernetes,
            shared_mesh_config=settings.cluster.shared_mesh_config,
            secret_readers=frozenset() if settings.kubernetes else None,
        )
        self._store.keep_time(now)
        self._findings = Findings(self._source.position, Lines(say, time.monotonic).say)
        self._injection = admission.Injection(
            self._store,
            lambda found: self._findings.replace("injection", found),
            Surroundings(
                revision=settings.cluster.revision,
                native_sidecars=settings.features.native_sidecars,
                openshift=settings.features.openshift,
            ),
            settings.cluster.namespace,
            settings.cluster.shared,
        )
        self._pressure = pressure.Pressure(pressure.meter(settings.features.memory_limit), time.monotonic)
        self._blind = Blind(self._source.age, settings.features.source_age.total_seconds(), time.monotonic, say)
        self._leaving = Leaving(awaited=settings.kubernetes and not settings.cluster.kubeconfig)
        self._built = False
        self._counts = Counts()
        self._issued = ca_counts.Counts()
        self._admitted = webhook_counts.Counts()
        self._signer: Signer | None = None
        self._serving: ServingCertificate | None = None
        self._secure: Server | None = None
        self._verifier: TokenVerifier | None = None
        self._ads: AdsService | None = None
        self._pipeline = Pipeline(
            self._store,
            self._report,
            clock=time.monotonic,
            pods_known=self._source.pods_known,
            on_push=instruments.pushed(self._counts, lambda: self._ads.deliveries if self._ads is not None else None),
        )
        self._refusals = Refusals(
            self._source.records(),
            self._store.get,
            partial(self._findings.replace, "proxies"),
        )
        self._gate = gate.opened(settings.features.envoy_admission, self._pipeline.look)
        self._listed = asyncio.Event()
        self._keys = self._refresher()
        self._names = gateway_names.following(self._store, self._findings)
        self._rights = self._source.secret_rights(self._store, partial(self._findings.replace, "rights to Secrets"))
        self._store.listen(self._counts.observing(self._pipeline.change, self._store.has))

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            SettingsError: an address can't be bound, or keys can't be read.
        """
        async with contextlib.AsyncExitStack() as outer:
            outer.push_async_callback(self._source.close)
            async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:
                running = Running(tasks)
                running.start(self._open(stack, running), "start")
                running.supervise("memory", partial(self._pressure.watch, stop.set))
                await stop.wait()
                await self._leaving.over(hurried=self._pressure.shedding)
                running.cancel()

    async def _open(self, stack: contextlib.AsyncExitStack, running: Running) -> None:
        """Say how we are, begin to read, then serve. The CA of a cluster may take as long as its API server does.

        Raises:
            SettingsError: an address can't be bound, or keys can't be read.
        """
        try:
            await self._open_pages(stack)
            running.supervise("watch", self._watch)
            running.supervise("key sets", self._keys.run)
            running.supervise("names of gateways", self._names.run)
            if self._rights is not None:
                running.supervise("rights to Secrets", self._rights.run)
            running.start(self._begin_pipeline(), "begin")
            running.supervise("pipeline", instruments.running(self._pipeline, self._counts))
            running.supervise("lag of the event loop", partial(lag.watch, self._counts.lag.observe))
            running.supervise("rejections", self._refusals.tell)
            metadata = partial(self._findings.replace, "metadata")
            running.supervise("metadata of proxies", partial(checks.metadata, self._pipeline, metadata))
            older = partial(self._findings.replace, "older Envoys")
            running.supervise("older Envoys", partial(checks.older_envoys, self._pipeline, older))
            running.supervise("ends of certificates", partial(expiry.watch, self._pipeline, now))
            await self._open_streams(stack, running)
        except (OSError, RuntimeError, ValueError, authority.AuthorityError) as error:
            raise SettingsError(str(error)) from error

    def _report(self, found: tuple[Diagnostic, ...]) -> None:
        """What the mesh found at a change; the injector looks at its settings then, also while no pod is made."""
        self._findings.replace("mesh", found)
        if (context := self._pipeline.context) is not None:
            self._keys.want(context.model.tokens.wishes)
            self._names.want(gateway_names.wanted(context))
            if self._rights is not None:
                self._rights.want(context.secret_users.accounts)
        of_trust = checks.trust_domain(self._settings, self._source.trust_domain, self._pipeline.context)
        self._findings.replace("trust domain", tuple(of_trust))
        if self._settings.https_address:
            self._injection.config()
        if not self._built:
            self._built = True
            self._begin()

    def _begin(self) -> None:
        """The first mesh is there.

        What was read stays: each full collection would walk a million objects again (a quarter of the CPU of a first
        configuration at 1,000 services). What is replaced is still freed, by its reference count.
        """
        gc.collect()
        gc.freeze()
        self._refusals.begin()
        say(f"istiod: ready, {len(tuple(self._store.keys()))} objects")

    async def _watch(self) -> None:
        report = partial(self._findings.replace, "source")
        await self._source.follow(self._store, report, self._listed.set)

    async def _begin_pipeline(self) -> None:
        """Build once all has been read, and keys of token issuers, rights and names of gateways have been asked for.

        Else good tokens would be refused, and gateways without certificates or addresses, until then.
        """
        await self._listed.wait()
        snapshot = self._store.snapshot()
        self._keys.want(request_authentication.first_wishes(snapshot))
        self._names.want(networks.first_wishes(snapshot))
        if self._rights is not None:
            self._rights.want(secret_users.build(snapshot).accounts)
            await self._rights.settled(PATIENCE)
        await self._names.settled(PATIENCE)
        await self._keys.settled(PATIENCE)
        self._pipeline.open()

    def _refresher(self) -> Refresher:
        features = self._settings.features
        guard = Guard(blocked=features.keys_blocked, allowed=features.keys_allowed)
        fetcher = Fetcher(guard, lambda host: service_addresses(self._store, host, features.dns_domain))
        report = partial(self._findings.replace, "key sets")
        return Refresher(fetcher.fetch, self._store.put_key_set, report, time.monotonic, features.key_refresh)

    async def _open_pages(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        everywhere = (settings.ca_address, settings.mtls_address, settings.grpc_address, settings.https_address)
        pages = tuple(dict.fromkeys(filter(None, (settings.monitoring_address, settings.http_address))))
        for address in (*pages, *everywhere):
            addresses.require_port(address)
        for address in pages:
            runner = await debug_server.serve(address, self._pages())
            stack.push_async_callback(runner.cleanup)
        if settings.grpc_address:
            auth.require_loopback(settings.grpc_address)
        for address in filter(None, everywhere):
            bound(address).close()  # what is taken is said at once, before anything is read

    async def _open_streams(self, stack: contextlib.AsyncExitStack, running: Running) -> None:
        """What proxies talk to. Trust domains are known only once the CA is."""
        settings = self._settings
        secure = settings.kubernetes or settings.ca_address or settings.mtls_address or settings.https_address
        ca = await self._source.authority() if secure else None
        limits = StreamLimits(per_identity=settings.features.streams_per_identity)
        self._ads = AdsService(
            self._pipeline,
            time.monotonic,
            authenticator=Authenticator(frozenset((self._source.trust_domain,))),
            settings=instruments.streams(self._counts, limits, self._refusals.note, self._pipeline),
            shared=self._refusals.shared,
            full=self._pressure.refusal,
        )
        self._refusals.serve(self._ads)
        await self._refusals.load()
        running.supervise("record of rejections", self._refusals.keep)
        if ca is not None:
            self._signer = ca
            await self._open_secure(ca, self._ads, stack, running)
        if settings.grpc_address:
            server = Server(self._ads.methods(), hurried=lambda: self._pipeline.pending)
            stack.push_async_callback(server.stop)
            server.listen(settings.grpc_address)
        stack.callback(self._ads.end)
        for name, part in self._source.parts(self._view()):
            running.supervise(name, part)

    async def _open_secure(
        self, ca: Signer, ads: AdsService, stack: contextlib.AsyncExitStack, running: Running
    ) -> None:
        settings = self._settings
        self._serving = serving = ServingCertificate(ca, now, self._source.names())
        ca.listen(serving.renew)
        running.supervise("renewal of the serving certificate", serving.renew_forever)
        if settings.https_address:
            await self._open_webhooks(serving, stack)
        if not (settings.ca_address or settings.mtls_address):
            return
        self._verifier = self._source.verifier(self._store)
        renewals = Renewals(self._lives, lambda: self._source.trust_domain)
        service = ca_server.CertificateService(ca, self._verifier, now, self._issued, renewals)
        others = Releases(settings.cluster, lambda: self._pipeline.context, ca, now)
        ages = others.ages(self._source.age, lambda: not self._pressure.shedding and not self._waiting())
        asked = {**others.service(ads.holder, self._verifier).methods(), **ages.methods()}
        ours = {**ads.methods(self._verifier), **service.methods(), **asked}
        server = Server(ours, hurried=lambda: self._pipeline.pending)
        running.supervise("streams of who knows little", partial(self._blind.run, others.peers().youngest, server))
        stack.push_async_callback(server.stop)
        self._secure = server
        for address in filter(None, (settings.ca_address, settings.mtls_address)):  # two names of one server
            server.listen(address, serving.context)

    def _lives(self, who: Identity, address: str) -> bool:
        """Whether the mesh knows a workload of this identity at this address."""
        context = self._pipeline.context
        entries = self._store.of("networking.istio.io", "WorkloadEntry").values()
        known = (each for each in entries if isinstance(each, WorkloadEntry))
        return context is not None and claims.lives(context.backends.pods.values(), known, who, address)

    async def _open_webhooks(self, serving: ServingCertificate, stack: contextlib.AsyncExitStack) -> None:
        def chain() -> bytes:
            return serving.material.certificate + serving.material.chain

        context = tls.server(serving.material.key, chain(), "http/1.1")
        serving.listen(lambda: tls.load(context, serving.material.key, chain()))
        sources = webhooks.Sources(
            ready=lambda: self._pipeline.ready and self._injection.config() is not None,
            config=self._injection.config,
            annotations=self._injection.annotations,
            findings=admission.judge,
            further=self._gate.findings if self._gate.asks else None,
            counts=self._admitted,
        )
        running = await webhooks.serve(self._settings.https_address, context, sources)
        stack.push_async_callback(running.close)

    def _waiting(self) -> tuple[str, ...]:
        """What is missing before anybody is served, a line each."""
        if not self._pipeline.ready:
            return tuple(self._source.waiting()) or ("the mesh: being built",)
        if self._ads is None:
            return (*self._source.waiting(), "the CA: being read")
        return (*self._source.untrusted(), *self._blind.waiting(), *self._leaving.waiting())

    def _view(self) -> View:
        return View(
            ready=lambda: self._pipeline.ready,
            findings=self._findings.current,
            version=lambda: self._findings.version,
            serving=self._store.has,
            report=partial(self._findings.replace, "cluster"),
            addresses=self._pipeline.addresses,
            proxies=following.Proxies(
                clients=lambda: self._secure.clients() if self._secure is not None else (),
                hasten=lambda stale, within: self._secure.hasten(stale, within) if self._secure is not None else None,
            ),
        )

    def _counted(self) -> Iterable[Family]:
        ours = () if self._signer is None else following.families(self._signer.current, time.time())
        said = () if self._log is None else (self._log.family(),)
        counts = (self._admitted, self._gate.counts, self._issued, self._pressure, self._blind)
        return (*(found for each in counts for found in each.families()), *ours, *said, *self._source.counted())

    def _pages(self) -> debug_server.Sources:
        guarded = self._settings.kubernetes and self._settings.features.debug_auth
        pages = Pages(
            store=self._store,
            pipeline=self._pipeline,
            counts=self._counts,
            waiting=self._waiting,
            findings=self._findings.current,
            ads=lambda: self._ads,
            rejections=self._refusals.current,
            ends=lambda: instruments.ends(self._signer, self._serving),
            unread=lambda: self._secure.unread if self._secure is not None else 0,
            watches=self._source.watches,
            counted=self._counted,
            verifier=(lambda: self._verifier) if guarded else None,
            root_namespace=self._settings.cluster.namespace,
            position=self._source.position,
            generation=self._source.generation,
            injector=injector_name(self._settings.cluster.revision),
        )
        return pages.sources()


def make_source(settings: Settings) -> Source:
    """The folder or the cluster that the settings name.

    Raises:
        SettingsError: there is no way to it.
    """
    if not settings.kubernetes:
        return Folders(settings)
    from istiod.cluster import Cluster  # noqa: PLC0415 (kopf takes a second and 40 MB, only where it is needed)

    return Cluster(settings)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: the settings can't work.
    """
    with unblocked.logged() as log:
        await _run(settings, log)


async def _run(settings: Settings, log: unblocked.Unblocked) -> None:
    gc.set_threshold(*GENERATIONS)
    sys.setswitchinterval(apart.SWITCH)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await ControlPlane(settings, log).run(stop)
    except* SettingsError as group:
        raise group.exceptions[0] from group

"""A mesh in Kubernetes: the parts that only a cluster has, made from one client and wired to each other.

The watch feeds the store; the CA's key is in a Secret; the API server judges tokens; and one of all replicas, the
leader, writes what belongs to the cluster. Imports kopf: app makes it only where Kubernetes is the source.
"""

from __future__ import annotations

import asyncio
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic, Position
from crds.key import ConfigKey
from crds.meta import Object
from crds.parse import parse
from istiod.analysis_controller import AnalysisController
from istiod.ca import following, keystore, rollover, signer
from istiod.ca.authority import Authority, AuthorityError, Material, self_signed
from istiod.ca.following import Following
from istiod.ca.signer import Signer
from istiod.ca_secrets import ROTATION_TYPE, Own, SecretPlace
from istiod.config.kubernetes import NOT_FOUND, ApiError
from istiod.config.protocols import Records, SecretRights, TokenVerifier
from istiod.config.store import ConfigSnapshot, ConfigStore
from istiod.kube import credentials, root_certificates, secret_rights, secrets, webhooks
from istiod.kube.client import KubernetesClient
from istiod.kube.lease import Candidate, Leader
from istiod.kube.reach import Reach
from istiod.kube.records import SecretRecords
from istiod.kube.status_writer import Sources as StatusSources
from istiod.kube.status_writer import StatusWriter
from istiod.kube.token_review import BoundPod, TokenReviewVerifier
from istiod.kube.webhooks import Ours
from istiod.mesh import mesh_config
from istiod.settings import Settings
from istiod.source import Report, View
from istiod.supervision import Part, SettingsError, now, say
from istiod.watch import kinds
from istiod.watch.kubernetes import ClusterWatch
from istiod.watch.objects import ObjectSet, Place
from wire.ca import OWN_CA, PLUGGED_IN, ROTATION
from wire.exposition import Family

CA_TYPE: Final = "istio.io/ca-root"
LOOK: Final = 1.0
"""Seconds between two looks at what the parts that write could not do."""
RETRY: Final = 2.0
"""Seconds between attempts to read what the start needs."""
LAST_GOOD: Final = "istio-last-good"
INJECTOR: Final = "istio-sidecar-injector"
VALIDATOR: Final = "istio-validator"


class _Troubled(Protocol):
    """A part that remembers why its last attempt failed; None where it did not."""

    problem: ApiError | None


class Cluster:
    """The source of ``istiod discovery`` without --configDir; made inside the event loop."""

    pods_known = True

    def __init__(self, settings: Settings) -> None:
        """Log in.

        Raises:
            SettingsError: there are no credentials for an API server.
        """
        self._own = settings.cluster
        self._features = settings.features
        self._elects = settings.features.leader_election
        self._validates = bool(settings.https_address)
        self.trust_domain = settings.trust_domain
        try:
            self._client = KubernetesClient(lambda: credentials.login(self._own.kubeconfig))
        except credentials.LoginError as error:
            raise SettingsError(str(error)) from error
        self._problem = ""
        self._signer: Signer | None = None
        mesh, injector = self._own.mesh_config.name, self._own.named(INJECTOR)
        place = Place(
            root_namespace=self._own.namespace,
            revision=self._own.revision,
            mesh_config=mesh,
            shared=self._own.shared,
            config_maps=frozenset(filter(None, (mesh, injector, self._own.shared))),
        )
        self.objects = ObjectSet(place)
        self._watch: ClusterWatch | None = None
        self._trust: webhooks.Trust | None = None
        self._bundles: webhooks.WebhookBundles | None = None
        self._rights: secret_rights.SecretRights | None = None
        self._identity = f"{self._own.pod_name}-{uuid.uuid4()}"
        self._records = SecretRecords(self._client, self._own.namespace, self._own.named(LAST_GOOD))
        self._reach = Reach(self._client, self._own.namespace)
        self._everywhere = self._leader("istio-leader")
        self._of_revision = self._leader(f"istio-leader-{self._own.revision}")
        own = Own(
            namespace=self._own.namespace,
            replica=self._identity,
            organization=lambda: self.trust_domain,
            mounted=pathlib.Path(self._own.ca_dir),
            now=now,
            life=settings.features.root_life,
        )
        self._place = SecretPlace(self._client, self._everywhere, own)

    async def authority(self) -> Signer:
        """The CA in the root namespace; waits for as long as the API server cannot be asked.

        Raises:
            SettingsError: a Secret is there, and what it holds cannot be used.
        """
        while True:
            try:
                self.trust_domain = await self._mesh_trust_domain()
                wanted = Authority(await self._material())
                found = Signer(await self._resumed(wanted), signer.lives(self._features))
            except ApiError as error:
                self._say_once(str(error))
                await asyncio.sleep(RETRY)
            except AuthorityError as error:
                raise SettingsError(str(error)) from error
            else:
                self._problem, self._signer = "", found
                return found

    def verifier(self, store: ConfigStore) -> TokenVerifier:
        """See Source."""

        def lives(bound: BoundPod) -> bool:
            found = store.get(ConfigKey("", "Pod", bound.namespace, bound.name))
            return found is not None and found.metadata.uid == bound.uid

        return TokenReviewVerifier(self._client, self.trust_domain, lives=lives)

    def secret_rights(self, store: ConfigStore, report: Report) -> SecretRights | None:
        """See Source."""
        self._rights = secret_rights.SecretRights(self._client, store.put_secret_readers, report, time.monotonic)
        return self._rights

    def generation(self, key: ConfigKey) -> int:
        """See Source."""
        found = self.objects.observed.get(key)
        return 0 if found is None else found.generation

    def records(self) -> Records:
        """See Source."""
        return self._records

    async def follow(self, store: ConfigStore, report: Report, ready: Callable[[], None]) -> None:
        """See Source."""
        self._watch = ClusterWatch(self._client, self.objects, store, kinds.watched(self._own.namespace), report)
        await self._watch.run(ready)

    def position(self, key: ConfigKey, field: str) -> Position | None:
        """See Source."""
        del key, field
        return None

    def waiting(self) -> Sequence[str]:
        """See Source."""
        if self._problem:
            return (self._problem,)
        return self._watch.waiting() if self._watch is not None else ("the CA's Secret: being read",)

    def watches(self) -> Sequence[Mapping[str, Any]]:
        """See Source."""
        return self._watch.status() if self._watch is not None else ()

    def counted(self) -> Iterable[Family]:
        """See Source."""
        bundles = self._bundles.families() if self._bundles is not None else ()
        rights = self._rights.families() if self._rights is not None else ()
        ours = (*bundles, *rights, *self._reach.families())
        return (*ours, *(self._watch.audit.families() if self._watch is not None else ()))

    def age(self) -> float:
        """See Source."""
        return self._reach.age

    def untrusted(self) -> Sequence[str]:
        """See Source: the API server trusts what the webhook configurations say."""
        if not self._validates:
            return ()
        return self._trust.waiting() if self._trust is not None else ("the webhooks: being opened",)

    def names(self) -> tuple[str, ...]:
        """As Istio's: the Service's names, with and without the revision, and what the operator adds."""
        space, services = self._own.namespace, dict.fromkeys(("istiod", self._own.named("istiod"), "istiod-remote"))
        found = [f"{name}.{space}{end}" for name in services for end in (".svc", ".svc.cluster.local", "")]
        more = [name.strip() for name in self._own.custom_host.split(",") if name.strip()]
        return (*found, f"istio-pilot.{space}.svc", *more, "localhost", "127.0.0.1", "::1")

    def parts(self, view: View) -> Sequence[Part]:
        """The elections, and what the leaders write."""
        served = view.ready if self._validates else lambda: False
        wishes = webhooks.Wishes(roots=self._roots, strict=served)
        bundles = webhooks.WebhookBundles(self._client, self._of_revision, self._webhooks(), wishes)
        self._trust, self._bundles = webhooks.Trust(bundles.untrusted), bundles
        wished = root_certificates.Wishes(
            namespaces=lambda: self.objects.namespaces,
            roots=self._roots,
            owner=bundles.owner,
            listed=lambda: bundles.listed,
        )
        roots = root_certificates.RootCertificates(self._client, self._everywhere, wished)
        bundles.followers.append(roots.writer.wake)
        if self._signer is not None:
            self._signer.listen(roots.writer.wake)
            self._signer.listen(bundles.writer.wake)
        leaders = (self._everywhere, self._of_revision)
        analysis = AnalysisController(self._client, self._own.namespace, self._own.revision, leaders)
        # The cluster's leader may be of another revision, which does not look at the objects of ours
        statuses = StatusWriter(self._client, self._everywhere, self._statuses(view, analysis, labelled=False), now)
        of_revision = StatusWriter(self._client, self._of_revision, self._statuses(view, analysis, labelled=True), now)
        writers: Sequence[_Troubled] = (
            *(each.writer for each in (roots, bundles, statuses, of_revision, self._records)),
            *(self._everywhere, self._of_revision, self._place),
        )
        analysis.followers += (statuses.writer.wake, of_revision.writer.wake)
        watches = (roots.collection, *bundles.collections, *self._place.collections, self._records.collection)
        watches += analysis.collections if self._features.analysis else ()
        problems = partial(self._tell_problems, view.report, watches, writers)
        return (
            ("age of what is known", self._reach.run),
            ("election", self._everywhere.run),
            ("election of the revision", self._of_revision.run),
            ("watch of root certificates", roots.collection.follow),
            ("writer of root certificates", roots.writer.run),
            *((f"watch of webhooks {i}", one.follow) for i, one in enumerate(bundles.collections)),
            ("writer of webhooks", bundles.writer.run),
            ("writer of statuses", statuses.writer.run),
            ("writer of statuses of the revision", of_revision.writer.run),
            ("findings of the writers", problems),
            *self._ca_parts(view),
            *(analysis.parts() if self._features.analysis else ()),
        )

    def _ca_parts(self, view: View) -> Sequence[Part]:
        """What keeps the CA at what the operator has put into its Secrets."""
        if self._signer is None:
            return ()
        clock = following.clock(lambda: now().timestamp(), self._features)
        run = Following(self._place, self._signer, view.proxies, clock, say).run
        watches = ((f"watch of the CA {i}", one.follow) for i, one in enumerate(self._place.collections))
        return (*watches, ("replacement of the CA", run))

    def _roots(self) -> str:
        return "" if self._signer is None else self._signer.roots

    async def close(self) -> None:
        """See Source."""
        await self._client.close()

    async def _tell_problems(self, report: Report, watches: Sequence[_Troubled], writers: Sequence[_Troubled]) -> None:
        """Report what the API server refuses, a missing right above all: nobody else would hear of it."""
        sorts = ((Code.UNWATCHED, watches, "what is known of it stays"), (Code.UNWRITTEN, writers, "it is tried again"))
        while True:
            report(
                tuple(
                    diagnostic.error(code, None, "", f"{each.problem}; {then}")
                    for code, parts, then in sorts
                    for each in parts
                    if each.problem is not None
                )
            )
            await asyncio.sleep(LOOK)

    def _leader(self, name: str) -> Leader:
        candidate = Candidate(namespace=self._own.namespace, name=name, identity=self._identity)
        return Leader(self._client, candidate, alone=not self._elects)

    def _statuses(self, view: View, analysis: AnalysisController, *, labelled: bool) -> StatusSources:
        """Of objects that name a revision, which is ours, or of those that name none."""
        objects = self.objects

        def findings() -> Sequence[Diagnostic]:
            # The watch tells many findings at once, now and then: a status of an object that it has not told of yet
            # would say that nothing is wrong with it.
            if self._watch is not None:
                self._watch.tell()
            return view.findings()

        return StatusSources(
            ready=view.ready,
            version=lambda: (view.version(), objects.changes, analysis.version),
            observed=lambda: (
                (key, one) for key, one in objects.observed.items() if one.labelled == labelled and objects.visible(key)
            ),
            findings=findings,
            serving=view.serving,
            addresses=view.addresses,
            analysed=analysis.said if self._features.analysis else lambda _: (),
        )

    def _webhooks(self) -> Ours:
        own = self._own
        injection = own.injection_webhook or own.named(INJECTOR)
        validation = own.validation_webhook or f"{own.named(VALIDATOR)}-{own.namespace}"
        return Ours(
            revision=own.revision,
            names=frozenset((injection, validation)),
            hosts=frozenset(self.names()),
            injection=injection,
        )

    async def _mesh_trust_domain(self) -> str:
        """The trust domain of the mesh's ConfigMaps: the CA has to issue identities of it."""
        own, shared = self._own.mesh_config, self._own.shared_mesh_config
        items = [await self._config_map(key) for key in (own, shared) if key is not None]
        held = {("", "ConfigMap"): {item.key: item for item in items if item is not None}}
        if not held["", "ConfigMap"]:
            return self.trust_domain
        said = ConfigSnapshot(held, mesh_config=own, shared_mesh_config=shared)
        return mesh_config.read(said, None)[0].trust_domain

    async def _config_map(self, key: ConfigKey) -> Object | None:
        path = f"/api/v1/namespaces/{key.namespace}/configmaps/{key.name}"
        try:
            raw: Any = await self._client.request("get", path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return parse({"apiVersion": "v1", "kind": "ConfigMap", **raw}).object

    async def _material(self) -> Material:
        """The user's own CA, mounted or not, or ours, which the first replica makes."""
        space = self._own.namespace
        if (mounted := keystore.Folder(pathlib.Path(self._own.ca_dir)).load()) is not None:
            return mounted
        for name in (PLUGGED_IN, OWN_CA):
            if (found := await secrets.read(self._client, space, name)) is not None:
                return keystore.unpack(found, f"Secret {name}")
        made = self_signed(self.trust_domain, now(), self._features.root_life)
        if await secrets.create(self._client, space, OWN_CA, CA_TYPE, keystore.pack(made)):
            state = rollover.dump(rollover.first(Authority(made), now().timestamp(), 0.0))
            await secrets.create(self._client, space, ROTATION, ROTATION_TYPE, {"state": state.encode()})
        found = await secrets.read(self._client, space, OWN_CA)  # whoever was first
        if found is None:
            raise ApiError(f"Secret {space}/{OWN_CA} was deleted while it was made")
        return keystore.unpack(found, f"Secret {OWN_CA}")

    async def _resumed(self, wanted: Authority) -> Authority:
        """Who signs, if the replacement of a CA is under way."""
        found = await secrets.read(self._client, self._own.namespace, ROTATION)
        text = (found or {}).get("state", b"").decode(errors="replace")
        return following.resumed(rollover.load(text) if text else None, wanted, now().timestamp())

    def _say_once(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            say(f"istiod: waits for the API server: {problem}")

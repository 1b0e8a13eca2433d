"""What the debug pages and metrics show, read off the running parts: proxies, store and mesh at the moment asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import web

from crds import core, text
from crds.diagnostic import Diagnostic, Position
from crds.key import NETWORKING, SECURITY, ConfigKey
from crds.meta import Object
from istiod import distribution
from istiod.ads.quarantine import Rejection
from istiod.ads.server import AdsService, Census, ProxyStatus
from istiod.config.protocols import TokenVerifier
from istiod.config.proxy import Proxy
from istiod.config.resource import EMPTY, ResourceSet
from istiod.config.store import ConfigStore
from istiod.debug import dumps, gauges, metrics, registryz, scopes, server, views
from istiod.debug.counts import Counts
from istiod.envoy import lacking
from istiod.mesh import context as mesh
from istiod.mesh import mesh_config
from istiod.mesh.context import MeshContext
from istiod.meshpage.server import MeshPage
from istiod.meshpage.sources import Sources
from istiod.pipeline import Pipeline
from wire import names
from wire.exposition import Family

_SECRET: Final[Mapping[str, Any]] = {"data": True, "string_data": True, "metadata": {"annotations"}}
"""What of a Secret is secret: kubectl keeps a copy of all of it in an annotation."""
_FIELDS: Final = {
    "Cluster": "cluster",
    "Listener": "listener",
    "RouteConfiguration": "route",
    "ClusterLoadAssignment": "endpoint",
    "TypedExtensionConfig": "extensionconfig",
}
"""Istio's names of the types in /debug/syncz, where Kiali reads TYPE_sent and TYPE_acked."""

_TELEMETRY: Final = "telemetry.istio.io"

Json = Mapping[str, Any]
_T = TypeVar("_T")


def syncz(status: ProxyStatus, moment: float, *, pending: bool, lacks: Sequence[str] = ()) -> Json:
    """A connected proxy as /debug/syncz shows it. ``acked`` is the age in seconds of its newest ACK at ``moment``.

    ``lacks`` is what it does without, being an older Envoy. Nobody is settled while something is ``pending``: what
    /debug/configz shows and all have settled on is what serves.
    """
    node = status.proxy.node
    types = {each.type_url.rpartition(".")[2]: each for each in status.types}
    nonces: dict[str, str] = {}
    for kind, field in _FIELDS.items():
        held = types.get(kind)
        nonces |= {f"{field}_sent": held.sent if held else "", f"{field}_acked": held.acked if held else ""}
    return {
        "cluster_id": node.cluster_id,
        "proxy": f"{node.name}.{node.namespace}",
        "proxy_type": node.type.value,
        "istio_version": node.istio_version,
        "envoy_version": lacking.version(status.proxy),
        "lacks": list(lacks),
        **nonces,
        "node": node.id,
        "identity": str(status.proxy.peer.identity) if status.proxy.peer.identity else None,
        "settled": status.settled and not pending,
        "target": status.target,
        "acked": None if status.acked_at is None else round(moment - status.acked_at, 4),
        "types": {
            kind: {"sync": each.sync.value, "refused": list(each.refused), "error": each.error}
            for kind, each in types.items()
        },
    }


def shown(item: Object) -> Json:
    """An object as /debug/configz shows it: what was said, without defaults: to say one may mean another thing.

    Of a Secret only that it exists, since anybody may ask.
    """
    exclude = _SECRET if isinstance(item, core.Secret) else None
    return item.model_dump(mode="json", by_alias=True, exclude=exclude, exclude_unset=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The parts that are looked at. ``ads`` is None until streams are served.

    ``ends`` are the Unix times at which our certificates end, by the name of their metrics. ``unread`` counts
    connections whose clients did not read.
    """

    store: ConfigStore
    pipeline: Pipeline
    counts: Counts
    waiting: Callable[[], Sequence[str]]
    findings: Callable[[], Sequence[Diagnostic]]
    ads: Callable[[], AdsService | None]
    rejections: Callable[[], Sequence[Rejection]] = tuple
    ends: Callable[[], Mapping[str, float]] = dict
    unread: Callable[[], int] = lambda: 0
    watches: Callable[[], Sequence[Json]] = tuple
    counted: Callable[[], Iterable[Family]] = tuple
    """What parts count that are not named here."""
    verifier: Callable[[], TokenVerifier | None] | None = None
    """None: the pages are open to all."""
    root_namespace: str = names.ROOT_NAMESPACE
    position: Callable[[ConfigKey, str], Position | None] = lambda *_: None
    """Where a field of an object stands in a file."""
    generation: Callable[[ConfigKey], int] = lambda _: 0
    """The generation of an object as it was last seen."""
    injector: str = "istio-sidecar-injector"
    """Name of the injector's ConfigMap."""

    def sources(self) -> server.Sources:
        """For the server of the pages."""
        return server.Sources(
            waiting=self.waiting,
            findings=self.findings,
            syncz=self._syncz,
            configz=lambda: [shown(item) for item in self.store.snapshot()],
            config_dump=lambda name: self._of(name, dumps.config_dump),
            edsz=lambda name: self._of(name, dumps.load_assignments),
            registryz=self._registryz,
            adsz=lambda: [_client(each) for each in self._proxies()],
            mesh=self._mesh,
            distribution=self._distribution,
            metrics=self._metrics,
            watches=self.watches,
            more=self._more(),
            of_proxy={
                "ecdsz": lambda name: self._of(name, dumps.extensions),
                "ndsz": lambda name: self._of(name, dumps.name_table),
                "sidecarz": self._sidecar,
            },
            verifier=self.verifier,
            root_namespace=self.root_namespace,
            extend=self._extend,
            for_people=("page/", "scopej"),
        )

    def _distribution(self, said: str) -> Json | None:
        ads, key = self.ads(), distribution.key_of(said)
        if ads is None:
            return None
        there = distribution.Seen(
            exists=self.store.has(key), generation=self.generation(key), pending=self.pipeline.pending
        )
        return distribution.shown(key, there, ads.deliveries)

    def _extend(self, app: web.Application) -> None:
        self._mesh_page().extend(app)
        scopes.extend(app)

    def _mesh_page(self) -> MeshPage:
        return MeshPage(
            Sources(
                context=lambda: self.pipeline.context,
                proxies=self._proxies,
                target=self.pipeline.target,
                findings=self.findings,
                position=self.position,
            )
        )

    def _more(self) -> Mapping[str, Callable[[], Any]]:
        store, root = self.store, self.root_namespace
        return {
            "endpointz": lambda: self._of_mesh(views.endpointz) or [],
            "endpointShardz": lambda: self._of_mesh(views.shards) or {},
            "instancesz": lambda: self._of_mesh(partial(views.instances, proxies=self._census().proxies)) or {},
            "resourcesz": views.kinds,
            "authorizationz": lambda: {
                "authorization_policies": views.policies(store.of(SECURITY, "AuthorizationPolicy"), "policies", root)
            },
            "telemetryz": lambda: {
                "telemetries": views.policies(store.of(_TELEMETRY, "Telemetry"), "telemetries", root)
            },
            "push_status": self._push_status,
            "inject": self._inject,
            "clusterz": lambda: [
                {"id": names.CLUSTER_ID, "secretName": "", "syncStatus": "synced" if self.pipeline.ready else "syncing"}
            ],
            "cachez": lambda: {"kept": self.pipeline.kept, "compiled": dict(self.pipeline.compiled)},
        }

    def _of_mesh(self, made: Callable[[MeshContext], _T]) -> _T | None:
        context = self.pipeline.context
        return None if context is None else made(context)

    def _census(self) -> Census:
        ads = self.ads()
        return Census() if ads is None else ads.census()

    def _push_status(self) -> Json:
        """The newest push; what Istio counts there by proxy is in /debug/diagnosticsz, by object."""
        last = self.pipeline.last
        if last is None:
            return {}
        ago = time.monotonic() - last.started
        started = datetime.now(UTC) - timedelta(seconds=ago)
        return {
            "Start": started.isoformat(),
            "End": (started + timedelta(seconds=sum(last.stages.values()))).isoformat(),
            "changes": last.changes,
            "proxiesTold": last.told,
            "secondsWaited": last.started - last.since,
            "secondsByStage": dict(last.stages),
            "pending": self.pipeline.pending,
        }

    def _inject(self) -> Json:
        found = self.store.get(ConfigKey("", "ConfigMap", self.root_namespace, self.injector))
        return dict(found.data) if isinstance(found, core.ConfigMap) else {}

    def _sidecar(self, name: str) -> Json | None:
        proxy, context = self._proxy(name), self.pipeline.context
        return None if proxy is None or context is None else views.sidecar(mesh.scope(context, proxy))

    def _proxy(self, name: str) -> Proxy | None:
        named = (each for each in self._census().proxies if f"{each.node.name}.{each.node.namespace}" == name)
        return next(named, None)

    def _proxies(self) -> tuple[ProxyStatus, ...]:
        ads = self.ads()
        return ads.status() if ads is not None else ()

    def _syncz(self) -> list[Json]:
        moment, pending = time.monotonic(), self.pipeline.pending
        targets = {id(proxy): target for proxy, target in self.pipeline.targets}
        return [
            syncz(each, moment, pending=pending, lacks=lacking.of(targets.get(id(each.proxy), EMPTY)))
            for each in self._proxies()
        ]

    def _of(self, name: str, made: Callable[[ResourceSet], _T]) -> _T | None:
        proxy = self._proxy(name)
        return None if proxy is None else made(self.pipeline.target(proxy))

    def _registryz(self) -> list[dict[str, Any]]:
        context = self.pipeline.context
        return registryz.shown(context.model.registry.services) if context is not None else []

    def _mesh(self) -> Json:
        try:
            found = text.load(mesh_config.text(self.store.snapshot()))
        except text.UnreadableError:
            return {}  # said in the findings
        return found if isinstance(found, Mapping) else {}

    def _metrics(self) -> str:
        context, census = self.pipeline.context, self._census()
        waits = [since for since in (self.pipeline.waits_since, census.since) if since is not None]
        facts = metrics.Facts(
            proxies=Counter(each.node.istio_version for each in census.proxies),
            behind=census.behind,
            staleness=time.monotonic() - min(waits) if waits else 0.0,
            refused=[each.resource.type_url for each in self.rejections()],
            mesh=gauges.of(context, census.proxies) if context is not None else gauges.Mesh(),
            virtual_services=len(self.store.of(NETWORKING, "VirtualService")),
            findings=self.findings(),
            unread=self.unread(),
            compiled=self.pipeline.compiled,
            kept=self.pipeline.kept,
            ends=self.ends(),
        )
        return metrics.text(facts, self.counts, self.counted())


def _client(status: ProxyStatus) -> Json:
    node = status.proxy.node
    return {
        "connectionId": node.id,
        "address": status.proxy.peer.address,
        "labels": dict(node.labels),
        "metadata": dict(node.metadata),
        "locality": {
            "region": node.locality.region,
            "zone": node.locality.zone,
            "subzone": node.locality.subzone,
        },
        "watches": [each.type_url for each in status.types],
    }

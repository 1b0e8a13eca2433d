"""The same world in one process: ``ConfigStore.apply`` -> pipeline -> sessions -> bytes, without files and sockets.

Tells what our own code costs, apart from gRPC, TLS and the kernel; and the thing to put under a profiler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from bench import world
from bench.objects import Document
from bench.world import Size
from crds.parse import parse
from istiod.ads.request import Request
from istiod.ads.session import AdsSession, Shared
from istiod.config.proxy import Peer, Proxy
from istiod.config.resource import EMPTY, Resource
from istiod.config.store import ConfigStore
from istiod.pipeline import Pipeline
from wire import names, node, spiffe

_NEEDS: Final = {names.CLUSTER: names.ENDPOINT, names.LISTENER: names.ROUTE}


class _Client:
    """An Envoy without a network: subscribes as one does, and ACKs everything at once."""

    def __init__(self, session: AdsSession) -> None:
        self._session = session
        self._wants: dict[str, frozenset[str]] = {}
        self.sent = 0

    def first(self, now: float) -> None:
        """The first configuration."""
        self._session.request(Request(type_url=names.CLUSTER))
        self.follow(now)
        self._session.request(Request(type_url=names.LISTENER))
        self.follow(now)

    def follow(self, now: float) -> None:
        """Take what there is until nothing comes."""
        while sends := self._session.plan(now):
            for send in sends:
                self.sent += sum(map(len, send.encode()))
                self._session.request(Request(type_url=send.type_url, nonce=send.nonce))
                if send.type_url in _NEEDS:
                    self._subscribe(_NEEDS[send.type_url], send.resources)

    def _subscribe(self, type_url: str, resources: Iterable[Resource]) -> None:
        wants = self._wants.get(type_url, frozenset())
        asked: set[str] = set()
        for resource in resources:
            asked |= resource.refs.get(type_url, frozenset())
        if fresh := asked - wants:
            self._wants[type_url] = wants | fresh
            self._session.request(Request(type_url=type_url, subscribe=tuple(fresh)))


class Mesh:
    """A store, a pipeline and clients."""

    def __init__(self, size: Size) -> None:
        """Take the whole world in."""
        self.size = size
        self.store = ConfigStore()
        self.pipeline = Pipeline(self.store, lambda _: None, time.monotonic)
        self.clients: list[_Client] = []
        self.proxies: list[Proxy] = []
        self._shared = Shared()
        self._now = 0.0
        for document in world.documents(size):
            self.apply(document)
        self.pipeline.open()
        self.pipeline.push()

    def apply(self, document: Document) -> None:
        """An object as a source would give it.

        Raises:
            ValueError: the object is none.
        """
        found = parse(document)
        if found.object is None:
            raise ValueError(f"the benchmark's own object is refused: {found.diagnostics}")
        self.store.apply(found.object)

    def connect(self) -> None:
        """All proxies get their first configuration."""
        for said in world.nodes(self.size):
            identity = spiffe.Identity(names.DEFAULT_TRUST_DOMAIN, said["ns"], said["sa"])
            claims = node.parse(
                f"sidecar~{said['ip']}~{said['pod']}.{said['ns']}~{said['ns']}.svc.cluster.local",
                {"NAMESPACE": said["ns"], "LABELS": said["labels"], "SERVICE_ACCOUNT": said["sa"]},
            )
            proxy = Proxy(peer=Peer(address="ipv4:127.0.0.1:1", identity=identity), node=claims)
            self.proxies.append(proxy)
            session = AdsSession(EMPTY, self._now, delta=True, shared=self._shared)
            self.pipeline.subscribe(proxy, session.retarget)
            client = _Client(session)
            client.first(self._now)
            self.clients.append(client)

    def change(self, document: Document) -> None:
        """One change, all the way to every client's ACK."""
        self._now += 100.0
        self.apply(document)
        self.pipeline.push()
        for client in self.clients:
            client.follow(self._now)


def _spent(what: Callable[[], None]) -> float:
    before = time.process_time()
    what()
    return time.process_time() - before


def run(size: Size, changes: int = 10) -> dict[str, float]:
    """CPU of this process: ``micro_build_s`` once, ``micro_first_ms`` per proxy, changes in us per proxy."""
    made: list[Mesh] = []
    figures = {"micro_build_s": _spent(lambda: made.append(Mesh(size)))}
    mesh = made[0]
    figures["micro_first_ms"] = _spent(mesh.connect) / size.proxies * 1e3
    for name, made_by in world.CHANGES.items():
        documents = [made_by(size, turn, turn + 1) for turn in range(changes)]
        spent = sum(_spent(partial(mesh.change, document)) for document in documents)
        figures[f"micro_{name}_us"] = spent / changes / size.proxies * 1e6
    return figures

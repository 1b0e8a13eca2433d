"""A client of one AdsSession in tests: it says what the test says, and ACKs when told."""

from __future__ import annotations

from istiod.ads import quarantine
from istiod.ads.request import Request
from istiod.ads.send import Send
from istiod.ads.session import AdsSession, Shared
from istiod.config.resource import Resource, ResourceSet
from tests.ads import made, model
from wire import names

C, E, L, R, S = names.CLUSTER, names.ENDPOINT, names.LISTENER, names.ROUTE, names.SECRET
OTHER = names.TYPE_PREFIX + "istio.networking.nds.v1.NameTable"


def basic() -> list[Resource]:
    return [
        model.make(C, "c0", "0"),
        model.make(C, "c1", "0"),
        model.make(E, "c0", "0"),
        model.make(E, "c1", "0"),
        model.make(R, "r0", "0", ("c0",)),
        model.make(L, "l0", "0", (), ("r0",)),
    ]


class Client:
    """A client that says what the test says, and ACKs when told."""

    def __init__(
        self, *resources: Resource, delta: bool = True, shared: Shared | None = None, of: str = "", name: str = ""
    ) -> None:
        self.delta = delta
        self.now = 0.0
        self.target: ResourceSet = made.targets(*resources)
        who = quarantine.Client(identity=of, name=name)
        self.session = AdsSession(self.target, self.now, delta=delta, shared=shared or Shared(), client=who)

    def ask(self, type_url: str, *asked: str, initial: dict[str, str] | None = None, version: str = "") -> list[Send]:
        if self.delta:
            request = Request(type_url=type_url, subscribe=asked, initial=initial or {})
        else:
            request = Request(type_url=type_url, names=asked, version=version)
        return self.say(request)

    def say(self, request: Request) -> list[Send]:
        self.session.request(request)
        return self.plan()

    def plan(self, after: float = 0.0) -> list[Send]:
        self.now += after
        return list(self.session.plan(self.now))

    def set(self, *resources: Resource, told: bool = True) -> list[Send]:
        before, self.target = self.target, made.targets(*resources)
        self.session.retarget(self.target, made.changes(before, self.target) if told else None)
        return self.plan()

    def ack(self, send: Send, *asked: str, error: str | None = None) -> list[Send]:
        listed = None if self.delta else asked
        return self.say(Request(type_url=send.type_url, names=listed, nonce=send.nonce, error=error))

    def start(self) -> None:
        """As Envoy: clusters, endpoints, listeners, routes, all ACKed."""
        (cds,) = self.ask(C)
        known = made.named(cds.resources)
        (eds,) = self.ask(E, *known)
        assert self.ack(eds, *known) == []
        assert self.ack(cds) == []
        (lds,) = self.ask(L)
        routes = sorted({n for r in lds.resources for n in r.refs.get(R, ())})
        (rds,) = self.ask(R, *routes)
        assert self.ack(lds) == []
        assert self.ack(rds, *routes) == []
        assert self.session.settled()


def brief(sends: list[Send]) -> list[tuple[str, list[str], list[str]]]:
    """Type, names, removed."""
    return [(s.type_url.rpartition(".")[2], made.named(s.resources), sorted(s.removed)) for s in sends]


def replaced(*new: Resource) -> list[Resource]:
    by_name = {(r.type_url, r.name): r for r in [*basic(), *new]}
    return list(by_name.values())


def without(*gone: str) -> list[Resource]:
    return [r for r in basic() if r.name not in gone]


def started_with(client: Client) -> Client:
    for sub in client.session._stream.subscriptions.values():
        for flight in sub.flights:
            client.say(Request(type_url=sub.type_url, nonce=flight.nonce))
    return client

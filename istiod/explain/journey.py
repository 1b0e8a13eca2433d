"""The way of a request from proxy to proxy: the client's, gateways between, and the sidecar of each server.

Each proxy is asked by istiod.explain with what it holds; here one's answer becomes the next one's call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from istiod.config.origin import Origin
from istiod.explain import proxy, question
from istiod.explain.answer import Answer, End, Host, Target
from istiod.explain.call import Call, Direction, Tls
from istiod.explain.held import Held
from istiod.explain.question import Question

_DEEPEST: Final = 4
_UNAVAILABLE: Final = 503
_ALL: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A workload. ``proxied``: it has an Envoy; ``router``: it is a gateway. ``identity`` is its SPIFFE id."""

    name: str
    namespace: str
    address: str
    identity: str
    proxied: bool
    router: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Where a name leads. ``note`` says what was assumed for it; ``endpoints`` are those of the port, if known."""

    address: str
    note: str = ""
    endpoints: tuple[tuple[str, int], ...] = ()


class Mesh(Protocol):
    """The workloads and what their proxies hold: out of files, or of a running istiod.

    Each raises its own error where it cannot answer; it goes through to whoever asks for the journey.
    """

    def find(self, said: str, namespace: str) -> Party:
        """The workload that the user names; an error where there is none."""
        ...

    def at(self, address: str) -> Party | None:
        """Whose address it is."""
        ...

    def held(self, party: Party) -> Held:
        """What its proxy holds; an error where that cannot be had."""
        ...

    def resolve(self, host: str, port: int, namespace: str) -> Resolved:
        """Where a client of a namespace finds a host."""
        ...

    def listened(self, party: Party, port: int) -> int:
        """The port of a gateway's pod behind a port of its Service."""
        ...

    def cause(self, origin: Origin) -> str:
        """An object and its field as the user finds it: with file and line where there are files."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A part of the requests at one endpoint. ``hop`` is its proxy; None: there is none, or nobody knows it."""

    share: float
    host: Host
    party: Party | None
    hop: Hop | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One proxy, what it is asked and answers, and where the request goes on."""

    party: Party
    call: Call
    answer: Answer
    arrivals: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a part of the requests, in percent. ``status`` 0: it is the app's to answer.

    ``way`` are the proxies that it passed, the client's first, and ``targets`` what each of them chose, but for one
    that answered itself. Outcomes that differ only in these count as equal.
    """

    share: float
    text: str
    workload: str = ""
    status: int = 0
    cluster: str = ""
    doubtful: bool = False
    way: tuple[Hop, ...] = field(default=(), compare=False)
    targets: tuple[Target, ...] = field(default=(), compare=False)
    party: Party | None = field(default=None, compare=False)
    """Whose app it reaches; None: nobody's that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """All of it. ``first`` is None where the client has no proxy: then ``arrivals`` are the servers at once."""

    question: Question
    client: Party
    first: Hop | None
    arrivals: tuple[Arrival, ...] = ()
    notes: tuple[str, ...] = ()

    def outcomes(self) -> tuple[Outcome, ...]:
        """What becomes of all requests, equal ones together, the most frequent first."""
        together: dict[Outcome, float] = {}
        for one in self.ends():
            name = replace(one, share=0.0)
            together[name] = together.get(name, 0.0) + one.share
        ordered = sorted(together.items(), key=lambda pair: -pair[1])
        return tuple(replace(one, share=share) for one, share in ordered)

    def ends(self) -> Iterator[Outcome]:
        """The same one by one: equal ones that came about in different ways stand apart."""
        if self.first is not None:
            return _of_hop(self.first, _ALL)
        return _of_arrivals(self.arrivals, "", _ALL, proxied=False)

    def hops(self) -> Iterator[tuple[Hop, float]]:
        """Each proxy on the way with its part of the requests, the client's first."""
        if self.first is not None:
            yield from _hops(self.first, _ALL)
        for each in self.arrivals:
            if each.hop is not None:
                yield from _hops(each.hop, each.share)


def travel(mesh: Mesh, asked: Question, client: Party | None = None) -> Journey:
    """Follow a request. ``client`` stands for the workload that the question names. The mesh's errors go through."""
    client = client or mesh.find(asked.workload, asked.namespace)
    tls = Tls.SIMPLE if asked.encrypted else Tls.NONE
    call = Call(
        destination=client.address,
        port=asked.port,
        source=client.address,
        http=asked.http,
        http2=asked.scheme == "grpc",
        tls=tls,
        sni=(asked.sni or asked.host) if asked.encrypted else "",
        alpn=("http/1.1",) if asked.scheme == "https" else (),
        authority=asked.authority,
        path=asked.path,
        method=asked.method,
        headers=_headers(asked),
        claims=asked.claims,
        moment=asked.moment,
    )
    if client.router:
        port = mesh.listened(client, asked.port)
        call = replace(call, direction=Direction.GATEWAY, source=asked.source or question.OUTSIDE, port=port)
        return Journey(question=asked, client=client, first=_hop(mesh, client, call, 0))
    where = _resolved(mesh, asked, client)
    call = replace(call, destination=where.address)
    notes = (where.note,) if where.note else ()
    if client.proxied:
        return Journey(question=asked, client=client, first=_hop(mesh, client, call, 0), notes=notes)
    hosts = [_plain(address, port, len(where.endpoints), tls) for address, port in where.endpoints]
    arrivals = tuple(_arrive(mesh, client, call, host, host.share, 0) for host in hosts)
    return Journey(question=asked, client=client, first=None, arrivals=arrivals, notes=notes)


def follow(mesh: Mesh, party: Party, call: Call) -> Hop:
    """What one proxy does with a call, and all that comes of it. The mesh's errors go through."""
    return _hop(mesh, party, call, 0)


def _headers(asked: Question) -> dict[str, str]:
    own = {name: value for name, value in asked.headers.items() if name != "host"}
    return {"content-type": "application/grpc", **own} if asked.scheme == "grpc" else own


def _resolved(mesh: Mesh, asked: Question, client: Party) -> Resolved:
    if asked.address:
        return Resolved(address=asked.address, endpoints=((asked.address, asked.port),))
    if question.is_address(asked.host):
        return Resolved(address=asked.host, endpoints=((asked.host, asked.port),))
    return mesh.resolve(asked.host, asked.port, client.namespace)


def _plain(address: str, port: int, count: int, tls: Tls) -> Host:
    """An endpoint to which kube-proxy connects a client without a sidecar."""
    return Host(
        address=address, port=port, share=_ALL / count, weight=1, priority=0, locality="", health="", tls=tls.value
    )


def _hop(mesh: Mesh, party: Party, call: Call, depth: int) -> Hop:
    answer = proxy.explain(mesh.held(party), call)
    arrivals: Sequence[Arrival] = ()
    if answer.end is End.FORWARD and call.direction is not Direction.INBOUND and depth < _DEEPEST:
        arrivals = [each for target in answer.targets for each in _arrivals(mesh, party, target, depth + 1)]
    return Hop(party=party, call=call, answer=answer, arrivals=tuple(arrivals))


def _arrivals(mesh: Mesh, client: Party, target: Target, depth: int) -> Iterator[Arrival]:
    for host in target.hosts or ():
        if host.share and target.call is not None:
            yield _arrive(mesh, client, target.call, host, target.share * host.share / _ALL, depth)


def _arrive(mesh: Mesh, client: Party, sent: Call, host: Host, share: float, depth: int) -> Arrival:
    party = mesh.at(host.address)
    tls = sent.tls if host.tls == Tls.NONE.value else Tls(host.tls)  # the app's own TLS passes through
    if party is None or not party.proxied:
        failure = ""
        if party is not None and tls is Tls.MUTUAL:
            failure = f"{client.name} speaks mTLS, {party.name} has no sidecar"
        return Arrival(share=share, host=host, party=party, failure=failure)
    if host.names and party.identity not in host.names:
        failure = f"{client.name} expects {' or '.join(host.names)}, the server is {party.identity}"
        return Arrival(share=share, host=host, party=party, failure=failure)
    mutual = tls is Tls.MUTUAL
    call = replace(
        sent,
        direction=Direction.GATEWAY if party.router else Direction.INBOUND,
        source=client.address,
        destination=host.address,
        port=host.port,
        tls=tls,
        sni=host.sni or sent.sni,
        alpn=(sent.alpn if sent.http and sent.alpn else host.alpn) if mutual else sent.alpn,
        principal=client.identity if mutual else "",
        remote="",
    )
    return Arrival(share=share, host=host, party=party, hop=_hop(mesh, party, call, depth))


def _hops(hop: Hop, share: float) -> Iterator[tuple[Hop, float]]:
    yield hop, share
    for each in hop.arrivals:
        if each.hop is not None:
            yield from _hops(each.hop, share * each.share / _ALL)


def _of_hop(hop: Hop, share: float) -> Iterator[Outcome]:
    for one in _ends_at(hop, share):
        yield replace(one, way=(hop, *one.way))


def _ends_at(hop: Hop, share: float) -> Iterator[Outcome]:
    answer, name = hop.answer, hop.party.name
    doubtful = bool(answer.doubts)
    if answer.aborts is not None:
        part, status = answer.aborts
        text = f"answered {status} by {name}: fault injection"
        yield Outcome(share=share * part / _ALL, text=text, status=status, doubtful=doubtful)
        share -= share * part / _ALL
    if answer.end is End.UNDECIDED:
        yield Outcome(share=share, text=f"cannot be said at {name}: {answer.detail}", doubtful=True)
    elif answer.end is End.ANSWER:
        text = f"answered {answer.status} by {name}: {answer.detail}"
        yield Outcome(share=share, text=text, status=answer.status, doubtful=doubtful)
    elif answer.end is End.CLOSE:
        yield Outcome(share=share, text=f"connection closed by {name}: {answer.detail}", doubtful=doubtful)
    elif hop.call.direction is Direction.INBOUND:
        text = f"reaches the app of {name} at port {hop.call.port}"
        yield Outcome(
            share=share, text=text, workload=name, doubtful=doubtful, targets=answer.targets[:1], party=hop.party
        )
    else:
        for each in answer.targets:
            for one in _of_target(hop, each, share * each.share / _ALL):
                yield replace(one, targets=(each, *one.targets))


def _of_target(hop: Hop, target: Target, share: float) -> Iterator[Outcome]:
    doubtful = bool(hop.answer.doubts)
    if target.hosts is None:
        yield Outcome(share=share, text="leaves the mesh to the host that is asked for", cluster=target.cluster)
    elif not target.hosts:
        text = f"answered {_UNAVAILABLE}: {target.cluster} has no endpoint"
        yield Outcome(share=share, text=text, status=_UNAVAILABLE, cluster=target.cluster, doubtful=doubtful)
    else:
        mine = [each for each in hop.arrivals if any(each.host is host for host in target.hosts)]
        for one in _of_arrivals(mine, target.cluster, share * _ALL / target.share):
            yield replace(one, doubtful=one.doubtful or doubtful)


def _of_arrivals(several: Sequence[Arrival], cluster: str, share: float, *, proxied: bool = True) -> Iterator[Outcome]:
    """``proxied``: a proxy of the client's makes the connections."""
    for each in several:
        mine = share * each.share / _ALL
        if each.failure:
            yield Outcome(
                share=mine, text=f"answered {_UNAVAILABLE}: {each.failure}", status=_UNAVAILABLE, cluster=cluster
            )
        elif each.hop is not None:
            for one in _of_hop(each.hop, mine):
                seen = _as_seen(one, each) if proxied else one
                yield replace(seen, cluster=one.cluster or cluster)
        elif each.party is not None:
            text = f"reaches the app of {each.party.name} at port {each.host.port}, which has no sidecar"
            yield Outcome(share=mine, text=text, workload=each.party.name, cluster=cluster, party=each.party)
        else:
            text = f"leaves the mesh to {each.host.address}:{each.host.port} ({each.host.tls})"
            yield Outcome(share=mine, text=text, cluster=cluster)


def _as_seen(one: Outcome, arrival: Arrival) -> Outcome:
    """A connection that the server's proxy closes is a 503 to an HTTP client whose own proxy made it."""
    closed = one.text.startswith("connection closed")
    if closed and arrival.hop is not None and arrival.hop.call.http and arrival.hop.call.direction is Direction.INBOUND:
        return replace(one, text=f"answered {_UNAVAILABLE}: {one.text}", status=_UNAVAILABLE)
    return one

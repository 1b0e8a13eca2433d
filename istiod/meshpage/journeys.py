"""``explain`` as a form: what is typed in becomes a question, and the way of the request becomes steps to read.

The question is answered by istiod.explain, on what istiod has for each proxy: whether they took it, their state says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from istiod.config.origin import Origin
from istiod.explain import held, question, workloads
from istiod.explain.answer import Lost, Stage, Step
from istiod.explain.call import Direction
from istiod.explain.held import Held
from istiod.explain.journey import Hop, Journey, Party, Resolved
from istiod.explain.question import Question, QuestionError
from istiod.mesh.context import MeshContext
from istiod.mesh.workloads import PodWorkload
from istiod.meshpage import proxies
from istiod.meshpage.sources import Sources
from wire.node import NodeType

FIELDS: Final = ("from", "scheme", "method", "host", "port", "path", "headers", "claims")
SCHEMES: Final = ("http", "https", "grpc", "tcp", "tls")
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
MOST_TEXT: Final = 8192
"""Characters of one field."""
MOST_LOST: Final = 5
"""Of so many rules that lost each is shown, of more the last: those nearest to the winner."""
MOST_NAMED: Final = 500
"""Workloads that the form offers."""
_QUIET: Final = (Stage.LISTENER, Stage.CHAIN)
"""Whose losers say little: other ports and protocols."""
_LAST_PORT: Final = 65_535
Cause = Callable[[Origin], str]


class Connected:
    """See istiod.explain.journey.Mesh: pods as the mesh knows them, and proxies that are none (virtual machines).

    A pod whose proxy is connected to another replica has what it would get here.
    """

    def __init__(self, sources: Sources, context: MeshContext) -> None:
        self._sources = sources
        self._context = context
        self._reader = held.Reader()
        self._connected = {proxies.name(each): each.proxy for each in sources.proxies()}

    def find(self, said: str, namespace: str) -> Party:
        """See Mesh.

        Raises:
            QuestionError: there is none.
        """
        pod = workloads.find(self._pods(), said, namespace)
        if pod is not None:
            return self._party(pod)
        home = said if not namespace or "." in said else f"{said}.{namespace}"
        name = next((each for each in sorted(self._connected) if home in (each, _workload(each))), None)
        if name is None:
            raise QuestionError(f"there is no workload {said!r}")
        return self._stranger(name)

    def at(self, address: str) -> Party | None:
        """See Mesh."""
        pod = self._context.backends.at(address)
        if pod is not None and pod.addresses:
            return self._party(pod)
        names = (name for name, each in self._connected.items() if address in each.node.addresses)
        name = next(names, None)
        return None if name is None else self._stranger(name)

    def held(self, party: Party) -> Held:
        """See Mesh."""
        proxy = self._connected.get(party.name)
        if proxy is None:
            name, _, namespace = party.name.rpartition(".")
            proxy = workloads.proxy(self._context, self._context.backends.pods[namespace, name])
        return self._reader.held(self._sources.target(proxy))

    def resolve(self, host: str, port: int, namespace: str) -> Resolved:
        """See Mesh."""
        return workloads.resolve(self._context, host, port, namespace)

    def listened(self, party: Party, port: int) -> int:
        """See Mesh."""
        return workloads.listened(self._context, party, port)

    def cause(self, origin: Origin) -> str:
        """See Mesh."""
        return self._sources.cause(origin)

    def names(self) -> tuple[str, ...]:
        """Workloads by the names that a user would type, the first of them."""
        pods = {f"{each.workload.name}.{each.namespace}" for each in self._pods()}
        known = {f"{each.name}.{each.namespace}" for each in self._pods()}
        return tuple(sorted(pods | (self._connected.keys() - known))[:MOST_NAMED])

    def _pods(self) -> list[PodWorkload]:
        return [pod for _, pod in sorted(self._context.backends.pods.items()) if pod.addresses]

    def _party(self, pod: PodWorkload) -> Party:
        found = workloads.party(self._context, pod)
        proxy = self._connected.get(found.name)
        return found if proxy is None else replace(found, proxied=True, router=proxy.node.type is NodeType.ROUTER)

    def _stranger(self, name: str) -> Party:
        """A proxy that is no pod."""
        proxy = self._connected[name]
        return Party(
            name=name,
            namespace=proxy.node.namespace,
            address=proxy.node.addresses[0],
            identity=str(proxy.peer.identity or ""),
            proxied=True,
            router=proxy.node.type is NodeType.ROUTER,
        )


def _workload(name: str) -> str:
    pod, _, namespace = name.rpartition(".")
    return f"{pod.rpartition('-')[0]}.{namespace}"


def asked(said: Mapping[str, str], moment: float) -> Question:
    """The question of a form at this time (seconds since 1970).

    Raises:
        QuestionError: a field means nothing.
    """
    long = next((name for name, text in said.items() if len(text) > MOST_TEXT), None)
    if long is not None:
        raise QuestionError(f"{long} has more than {MOST_TEXT} characters")
    scheme, method = said.get("scheme", "http"), said.get("method", "")
    if scheme not in SCHEMES:
        raise QuestionError(f"scheme {scheme!r} is none of {', '.join(SCHEMES)}")
    if not said.get("from") or not said.get("host"):
        raise QuestionError("say who calls, and which host")
    path = said.get("path", "/")
    if not path.startswith("/"):
        raise QuestionError(f"path {path!r} does not begin with /")
    host = said["host"].strip().removeprefix("[").removesuffix("]")
    return Question(
        workload=said["from"].strip(),
        scheme=scheme,
        host=host,
        port=_port(said.get("port", ""), scheme),
        path=path,
        method=method or ("POST" if scheme == "grpc" else "GET"),
        headers=question.headers(line for line in said.get("headers", "").splitlines() if line.strip()),
        claims=question.claims(said.get("claims", "").strip()),
        moment=moment,
    )


def _port(said: str, scheme: str) -> int:
    if not said and scheme == "tcp":
        raise QuestionError("TCP needs a port")
    if not said:
        return 443 if scheme in ("https", "tls") else 80
    if not (said.isascii() and said.isdecimal() and 0 < int(said[:6]) <= _LAST_PORT):
        raise QuestionError(f"{said!r} is no port")
    return int(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a part of the requests. ``tone`` is good, warning or error."""

    share: str
    text: str
    tone: str
    doubtful: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One step: what was chosen, what it means, which object says so, and what lost for which reason."""

    stage: str
    name: str
    text: str
    cause: str
    lost: tuple[tuple[str, str], ...]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One proxy on the way. ``alike`` are others that do the same."""

    proxy: str
    direction: str
    share: str
    lines: tuple[Line, ...]
    end: str
    doubts: tuple[str, ...]
    alike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The whole way."""

    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    stops: tuple[Stop, ...]


def told(journey: Journey, cause: Cause) -> Told:
    """A journey in words; proxies that do the same stand together."""
    stops: dict[tuple[object, ...], list[tuple[Hop, float]]] = {}
    for hop, share in journey.hops():
        stops.setdefault(_doing(hop, cause), []).append((hop, share))
    outcomes = (
        Outcome(share=_percent(one.share), text=one.text, tone=_tone(one.status, one.text), doubtful=one.doubtful)
        for one in journey.outcomes()
    )
    return Told(
        outcomes=tuple(outcomes),
        notes=journey.notes,
        stops=tuple(_stop(several, cause) for several in stops.values()),
    )


def _tone(status: int, text: str) -> str:
    if text.startswith(("connection closed", "cannot be said")) or status >= 400:  # noqa: PLR2004 (HTTP's errors)
        return "error"
    return "warning" if text.startswith("leaves the mesh") else "good"


def _percent(share: float) -> str:
    return f"{share:.3g}%"


def _doing(hop: Hop, cause: Cause) -> tuple[object, ...]:
    return (hop.call.direction, tuple(_lines(hop, cause)), hop.answer.detail, hop.answer.doubts)


def _stop(several: list[tuple[Hop, float]], cause: Cause) -> Stop:
    hop, _ = several[0]
    answer = hop.answer
    status = f" {answer.status}" if answer.status else ""
    return Stop(
        proxy=hop.party.name,
        direction=hop.call.direction.value,
        share=_percent(sum(share for _, share in several)),
        lines=tuple(_lines(hop, cause)),
        end=f"{answer.end.value}{status}: {answer.detail}" if answer.detail else "",
        doubts=answer.doubts,
        alike=tuple(dict.fromkeys(other.party.name for other, _ in several[1:])),
    )


def _lines(hop: Hop, cause: Cause) -> Iterator[Line]:
    for step in hop.answer.steps:
        if step.stage is Stage.ENDPOINTS and hop.call.direction is Direction.INBOUND:
            yield Line(stage=step.stage.value, name="", text="the app beside it", cause="", lost=(), more=0)
        else:
            yield _line(step, cause)


def _line(step: Step, cause: Cause) -> Line:
    lost = () if step.stage in _QUIET else step.lost
    kept = lost if len(lost) <= MOST_LOST else lost[-1:]
    return Line(
        stage=step.stage.value,
        name="" if step.stage is Stage.ENDPOINTS else step.name,
        text=step.text,
        cause=cause(step.origin) if step.origin is not None else "",
        lost=tuple((_loser(one, cause), one.reason) for one in kept),
        more=len(lost) - len(kept),
    )


def _loser(one: Lost, cause: Cause) -> str:
    return cause(one.origin) if one.origin is not None else one.name or "a rule"

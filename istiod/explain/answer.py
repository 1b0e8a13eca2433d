"""The answer: the steps that a call takes through one proxy, each with its cause and with what lost and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from istiod.config.origin import Origin
from istiod.explain.call import Call


class Stage(Enum):
    """What a step decides; the value is its heading."""

    LISTENER = "listener"
    CHAIN = "filter chain"
    TLS = "TLS"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    HOST = "virtual host"
    ROUTE = "route"
    FAULT = "fault"
    FILTER = "filter"
    REQUEST = "request"
    CLUSTER = "cluster"
    ENDPOINTS = "endpoints"


class End(Enum):
    """How a call leaves a proxy."""

    FORWARD = "forwarded"
    ANSWER = "answered"
    CLOSE = "connection closed"
    UNDECIDED = "cannot be said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A rule that was looked at and did not decide."""

    name: str
    reason: str
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One decision. ``name`` is what was chosen, by Envoy's name; ``text`` says what it means."""

    stage: Stage
    name: str
    text: str = ""
    origin: Origin | None = None
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One endpoint. ``share`` is its part of the cluster's requests in percent while all are healthy."""

    address: str
    port: int
    share: float
    weight: int
    priority: int
    locality: str
    health: str
    tls: str
    alpn: tuple[str, ...] = ()
    sni: str = ""
    names: tuple[str, ...] = ()
    """Subject names that the client accepts; empty: any that the root vouches for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A header of the response that a route changes; ``value`` None takes it away."""

    name: str
    value: str | None
    appends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster and its part of the requests in percent. ``hosts`` is None where Envoy finds them itself by DNS."""

    cluster: str
    share: float
    hosts: tuple[Host, ...] | None = None
    origin: Origin | None = None
    call: Call | None = None
    """The call as it is sent there."""
    changes: tuple[Change, ...] = ()
    """What is done, in this order, to the headers of the response from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What becomes of a call at one proxy.

    ``status`` is 0 where the proxy itself does not answer; ``changes`` are those to the headers of its own answer.
    ``aborts`` are the percent that an injected fault ends before, and its status. ``timeout`` is the route's in
    seconds, 0 for none; ``retries`` how often it tries again. ``doubts`` are what could not be told: then the rest is
    what happens if those let the call pass unchanged.
    """

    end: End
    steps: tuple[Step, ...]
    targets: tuple[Target, ...] = ()
    mirrors: tuple[str, ...] = ()
    status: int = 0
    detail: str = ""
    location: str = ""
    changes: tuple[Change, ...] = ()
    aborts: tuple[float, int] | None = None
    timeout: float = 0.0
    retries: int = 0
    doubts: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """Names of Envoy's: listener, chain, table, host, route."""

    def step(self, stage: Stage) -> Step | None:
        """The last step of a stage."""
        return next((one for one in reversed(self.steps) if one.stage is stage), None)

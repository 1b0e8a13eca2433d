"""The session against a model of Envoy, with random targets and random order of events."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from istiod.ads.session import AdsSession, Shared
from istiod.ads.stream import Timing
from istiod.config.resource import EMPTY, Resource, ResourceSet
from tests.ads import made, model
from wire import names

TIMING = Timing()
PATIENT = 4.0
"""Messages are delivered within this many seconds where the gates' deadlines must not fire."""
GOOD = st.sampled_from(["0", "1", "2"])
ANY = st.sampled_from(["0", "1", "2", "0", "1", "2", model.BAD])


@st.composite
def target_sets(draw: st.DrawFn, revisions: st.SearchStrategy[str]) -> ResourceSet:
    """A consistent target: what is named exists."""
    clusters = draw(st.dictionaries(st.sampled_from(["c0", "c1", "c2", "c3"]), revisions, min_size=1))
    some = st.lists(st.sampled_from(sorted(clusters)), max_size=2, unique=True).map(sorted).map(tuple)
    routes = draw(st.dictionaries(st.sampled_from(["r0", "r1"]), st.tuples(revisions, some), min_size=1))
    by_route = st.lists(st.sampled_from(sorted(routes)), max_size=2, unique=True).map(sorted).map(tuple)
    extensions = draw(st.dictionaries(st.sampled_from(["x0", "x1"]), st.tuples(revisions, some)))
    by_filter = st.lists(st.sampled_from(sorted(extensions)), max_size=2, unique=True).map(sorted).map(tuple)
    filters = by_filter if extensions else st.just(())
    listeners = draw(st.dictionaries(st.sampled_from(["l0", "l1"]), st.tuples(revisions, some, by_route, filters)))
    endpoints = {name: draw(st.sampled_from("012")) for name in sorted(clusters)}
    return made.targets(
        *(model.make(names.CLUSTER, name, revision) for name, revision in clusters.items()),
        *(model.make(names.ENDPOINT, name, revision) for name, revision in endpoints.items()),
        *(model.make(names.ROUTE, name, revision, to) for name, (revision, to) in routes.items()),
        *(model.make(names.EXTENSION, name, revision, to) for name, (revision, to) in extensions.items()),
        *(model.make(names.LISTENER, name, *said) for name, said in listeners.items()),
    )


class Streams(RuleBasedStateMachine):
    """One client, one stream after another; messages are delivered when the machine says."""

    delta = True
    steps = 0

    def _start(self, wanted: ResourceSet) -> None:
        self.shared = Shared(timing=TIMING)
        self.envoy = model.Envoy(delta=self.delta, linger=TIMING.linger)
        self.target = EMPTY
        self.past: tuple[ResourceSet, ...] = ()
        self.sends = 0
        self.changes = 0
        self._open(wanted)

    def _open(self, target: ResourceSet) -> None:
        self.session = AdsSession(target, self.envoy.now, delta=self.delta, shared=self.shared)
        self._aim(target)
        self.envoy.connect()

    def _move(self, wanted: ResourceSet) -> None:
        """Come back to a replica that shares nothing with the one before."""
        self.shared = Shared(timing=TIMING)
        self._return(wanted)

    def _return(self, wanted: ResourceSet) -> None:
        if not self.delta:  # what vanishes before its first answers vanishes at once (docs/limits.md)
            self.envoy.excused |= {*self.envoy.clusters, *self.envoy.warming}
        self._open(wanted)

    def _aim(self, target: ResourceSet) -> None:
        self.past = (*self.past, target)[-4:]
        self.target = target
        self.changes += 1
        self.envoy.spoiled |= {cluster.name for cluster in target.of(names.CLUSTER) if model.bad(cluster)}

    def _change(self, wanted: ResourceSet, *, told: bool) -> None:
        changed = made.changes(self.target, wanted)
        if self.session.settled() and self.session._stream.clusters is not None:
            self.envoy.excused.clear()
        self._aim(wanted)
        self.session.retarget(wanted, changed if told else None)
        self._send()

    @rule()
    def to_envoy(self) -> None:
        if self.envoy.inbox:
            self.envoy.receive()

    @rule()
    def from_envoy(self) -> None:
        if self.envoy.outbox:
            self.session.request(self.envoy.outbox.popleft()[1])
            self._send()

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 2.5]))
    def wait(self, seconds: float) -> None:
        waiting = [at for at, _ in (*self.envoy.inbox, *self.envoy.outbox)]
        if self.envoy.now + seconds - min(waiting, default=self.envoy.now) > PATIENT:
            self._flush()
        self._advance(seconds)

    @rule(seconds=st.sampled_from([6.0, 36.0, 50.0, 70.0]))
    def wait_long(self, seconds: float) -> None:
        end = self.envoy.now + seconds
        while self.envoy.now < end:
            self._flush()
            wake = self.session.wake
            self._advance(min(end, end if wake is None else max(wake, self.envoy.now + 0.001)) - self.envoy.now)

    def _advance(self, seconds: float) -> None:
        self.envoy.advance(seconds)
        self._send()

    def _send(self) -> None:
        for send in self.session.plan(self.envoy.now):
            assert send.encode()
            self.sends += 1
            self.envoy.inbox.append((self.envoy.now, send))

    def _flush(self) -> None:
        for _ in range(400):
            if not self.envoy.inbox and not self.envoy.outbox:
                return
            self.to_envoy()
            self.from_envoy()
        raise AssertionError("messages without end")

    @invariant()
    def a_step_is_counted(self) -> None:
        Streams.steps += 1

    @invariant()
    def live_chains_name_live_clusters(self) -> None:
        for listener in self.envoy.listeners.values():
            for name in self.envoy.named_by(listener):
                if name not in self.envoy.spoiled | self.envoy.excused:
                    assert name in self.envoy.clusters, f"{listener.name} names {name}"

    @invariant()
    def at_most_one_response_of_a_type_waits(self) -> None:
        for sub in self.session._stream.subscriptions.values():
            if sub.type_url in {names.LISTENER, names.ROUTE}:
                assert len(sub.flights) <= 1

    def teardown(self) -> None:
        self._come_to_rest()
        self._advance(model.DRAIN + 1)
        self._come_to_rest()
        self._compare()
        assert self.sends <= 16 * (self.changes + 1) + 10 * self.envoy.refusals

    def _come_to_rest(self) -> None:
        for _ in range(60):
            self._flush()
            wake = self.session.wake
            if wake is None:
                return
            self._advance(max(wake - self.envoy.now, 0.001))
        raise AssertionError("the plan never ends")

    def _compare(self) -> None:
        envoy = self.envoy
        held = {names.CLUSTER: envoy.clusters, names.LISTENER: envoy.listeners, names.ROUTE: envoy.routes}
        held[names.EXTENSION] = envoy.extensions
        for type_url, has in held.items():
            for resource in self.target.of(type_url):
                if type_url in (names.ROUTE, names.EXTENSION) and resource.name not in has:
                    continue  # nobody asks for it
                if self._can_serve(resource):
                    assert resource.name in has, resource.name
                    assert has[resource.name].version == resource.version, resource.name
        for name in envoy.listeners:
            assert self.target.get(names.LISTENER, name) is not None or (names.LISTENER, name) in envoy.unsaid, name
        for name in envoy.clusters if self.session.settled() else ():
            assert self.target.get(names.CLUSTER, name) is not None or (names.CLUSTER, name) in envoy.unsaid, name
        for resource in self.target.of(names.ENDPOINT):
            assert envoy.endpoints.get(resource.name, resource.version) == resource.version, resource.name

    def _can_serve(self, resource: Resource) -> bool:
        told = (resource.type_url, resource.name) not in self.envoy.unsaid
        return told and not model.bad(resource) and not self._waits_for_bad(resource)

    def _waits_for_bad(self, resource: Resource) -> bool:
        return any(
            (found := self.target.get(type_url, name)) is not None and model.bad(found)
            for type_url in (names.ROUTE, names.EXTENSION)
            for name in resource.refs[type_url]
        )


class Refusing(Streams):
    """A client that never loses its stream, and refuses some resources."""

    delta = True

    @initialize(wanted=target_sets(ANY), names_guilty=st.booleans())
    def start(self, *, wanted: ResourceSet, names_guilty: bool) -> None:
        self._start(wanted)
        self.envoy.names_guilty = names_guilty

    @rule(wanted=target_sets(ANY), told=st.booleans())
    def change(self, wanted: ResourceSet, told: bool) -> None:  # noqa: FBT001 (drawn)
        self._change(wanted, told=told)

    @rule(ago=st.integers(2, 4))
    def undo(self, ago: int) -> None:
        """What was refused, and given back by the client, is not sent again."""
        if ago <= len(self.past):
            self._change(self.past[-ago], told=True)


class RefusingWhole(Refusing):
    """The same in state of the world."""

    delta = False


class Returning(Streams):
    """A delta client that loses its stream at any moment and comes back with what it holds.

    It comes back to the same server, or to a replica that never saw it and is behind or ahead.
    """

    delta = True

    @initialize(wanted=target_sets(GOOD))
    def start(self, wanted: ResourceSet) -> None:
        self._start(wanted)

    @rule(wanted=target_sets(GOOD), told=st.booleans())
    def change(self, wanted: ResourceSet, told: bool) -> None:  # noqa: FBT001 (drawn)
        self._change(wanted, told=told)

    @rule()
    def reconnect(self) -> None:
        self._return(self.target)

    @rule(wanted=target_sets(GOOD))
    def move(self, wanted: ResourceSet) -> None:
        self._move(wanted)


class ReturningRefusing(Refusing):
    """The same, and it refuses some resources.

    What a refused response brought is not said after a reconnect, so no server can repair it: those names are excused.
    """

    @rule()
    def reconnect(self) -> None:
        self._return(self.target)

    @rule(wanted=target_sets(ANY))
    def move(self, wanted: ResourceSet) -> None:
        self._move(wanted)


class ReturningWhole(Returning):
    """A client of state of the world that comes back: it says nothing of what it holds."""

    delta = False


SAMPLE = settings(
    max_examples=40,
    derandomize=True,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
"""No shrinking: a shorter example is found faster by running with fewer steps."""
STEPS = 20_000
"""How many steps the long run takes with each machine."""
MACHINES = [Refusing, RefusingWhole, Returning, ReturningRefusing, ReturningWhole]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_sample_of_random_events_keeps_every_promise(machine: type[Streams]) -> None:
    run_state_machine_as_test(machine, settings=SAMPLE)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("machine", MACHINES)
def test_twenty_thousand_random_events_keep_every_promise(machine: type[Streams]) -> None:
    many = settings(SAMPLE, max_examples=100, stateful_step_count=50, derandomize=False, database=None)
    before, seed = Streams.steps, 0
    while Streams.steps < before + STEPS:
        seed += 1
        run_state_machine_as_test(hypothesis.seed(seed)(type(machine.__name__, (machine,), {})), settings=many)
    print(f"{machine.__name__}: {Streams.steps - before} steps, seeds 1 to {seed}")  # noqa: T201 (the figure)

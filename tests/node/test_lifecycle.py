"""What keeps pods as they should be: back-off, probes, Deployments."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import probes, replicas
from node.backoff import Backoff
from node.probes import Exec, HttpGet, Probe, TcpSocket, Verdict
from node.replicas import Plan, Replica, Strategy

PROBE = Probe(action=TcpSocket(port=1), success_threshold=2, failure_threshold=3)


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_up_to_a_cap() -> None:
    backoff = Backoff(base=1, cap=5)
    assert [backoff.delay(n) for n in range(1, 7)] == [0, 1, 2, 4, 5, 5]


def test_a_steady_run_forgives_earlier_failures() -> None:
    backoff = Backoff(steady=60)
    assert (backoff.failures(4, 59), backoff.failures(4, 60)) == (5, 1)


@pytest.mark.parametrize(
    ("start", "answers", "values"),
    [
        (False, "yy", [False, True]),
        (False, "yny", [False, False, False]),
        (True, "nnn", [True, True, False]),
        (True, "nnynnn", [True, True, True, True, True, False]),
    ],
)
def test_a_verdict_changes_after_enough_answers_in_a_row(start: bool, answers: str, values: list[bool]) -> None:  # noqa: FBT001 (a case)
    verdict, seen = Verdict(value=start), []
    for each in answers:
        verdict = verdict.after(each == "y", PROBE)
        seen.append(verdict.value)
    assert seen == values


def test_probes_are_read_with_kubernetes_defaults() -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    http = {"httpGet": {"port": "web", "scheme": "https", "httpHeaders": [{"name": "a", "value": "b"}]}}
    probe = probes.probe_of({**http, "periodSeconds": 3}, ports)
    action = HttpGet(path="/", port=8080, scheme="HTTPS", headers=(("a", "b"),))
    assert probe == Probe(action=action, period=3, timeout=1, success_threshold=1, failure_threshold=3)
    assert probes.action_of({"tcpSocket": {"port": "81"}}, ports) == TcpSocket(port=81)
    assert probes.action_of({"exec": {"command": ["a", 1]}}, ports) == Exec(command=("a", "1"))
    assert probes.probe_of({"grpc": {"port": 1}}, ports) is None
    assert probes.probe_of(None, ports) is None
    assert probes.port_number("nosuch", ports) == 0


def deployment(count: int | None = 3, **strategy: object) -> dict[str, object]:
    spec: dict[str, object] = {"strategy": strategy, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}
    if count is not None:
        spec["replicas"] = count
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (deployment(None), Strategy(surge=1, unavailable=0)),
        (deployment(10), Strategy(surge=3, unavailable=2)),
        (deployment(4, rollingUpdate={"maxSurge": 0, "maxUnavailable": "0%"}), Strategy(surge=0, unavailable=1)),
        (deployment(1, type="Recreate"), Strategy(surge=1, unavailable=0, recreate=True)),
    ],
)
def test_strategies_have_kubernetes_defaults(given_: dict[str, object], expected: Strategy) -> None:
    assert replicas.strategy_of(given_) == expected


def ready(name: str, template: str, order: int = 0) -> Replica:
    return Replica(name=name, template=template, ready=True, order=order)


def test_a_new_template_comes_up_before_the_old_one_goes() -> None:
    rolling = Strategy(surge=1, unavailable=0)
    old = [ready("a", "1"), ready("b", "1")]
    assert replicas.plan(2, "2", rolling, old) == Plan(create=1)
    starting = Replica(name="c", template="2", ready=False)
    assert replicas.plan(2, "2", rolling, [*old, starting]) == Plan()
    assert replicas.plan(2, "2", rolling, [*old, ready("c", "2")]) == Plan(create=1, remove=("a",))


def test_recreate_removes_before_it_makes() -> None:
    strategy = Strategy(surge=1, unavailable=0, recreate=True)
    assert replicas.plan(1, "2", strategy, [ready("a", "1")]) == Plan(remove=("a",))
    assert replicas.plan(1, "2", strategy, []) == Plan(create=1)


def test_scaling_down_takes_pods_that_are_not_ready_first_then_the_youngest() -> None:
    pods = [ready("a", "1", 1), ready("b", "1", 2), Replica(name="c", template="1", ready=False, order=0)]
    assert replicas.plan(1, "1", Strategy(surge=1, unavailable=0), pods) == Plan(remove=("c", "b"))


@given(
    wanted=st.integers(0, 6),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
    before=st.lists(st.tuples(st.sampled_from("12"), st.booleans()), max_size=6),
)
def test_a_roll_out_arrives_and_never_has_too_few_ready_pods(
    wanted: int, surge: int, unavailable: int, before: list[tuple[str, bool]]
) -> None:
    strategy = Strategy(surge=surge, unavailable=unavailable or int(surge == 0))
    pods = [Replica(name=str(i), template=t, ready=r, order=i) for i, (t, r) in enumerate(before)]
    names = itertools.count(100)
    for _ in range(60):
        plan = replicas.plan(wanted, "2", strategy, pods)
        least = min(sum(p.ready for p in pods), wanted - strategy.unavailable)
        pods = [p for p in pods if p.name not in plan.remove]
        assert sum(p.ready for p in pods) >= least
        if plan == Plan():
            pods = [Replica(name=p.name, template=p.template, ready=True, order=p.order) for p in pods]
        pods += [Replica(name=str(next(names)), template="2", ready=False) for _ in range(plan.create)]
    assert [p.template for p in pods] == ["2"] * wanted
    assert all(p.ready for p in pods)


def test_a_pod_of_a_deployment_is_named_and_owned_as_in_kubernetes() -> None:
    raw = deployment()
    chosen = replicas.template_hash(raw)
    pod = replicas.pod_of(raw, f"web-{chosen}-abcde")
    assert pod["metadata"]["labels"] == {"a": "b", "pod-template-hash": chosen}
    assert pod["metadata"]["ownerReferences"][0]["name"] == f"web-{chosen}"
    assert set(chosen) <= set(replicas.ALPHABET)
    assert replicas.template_hash(deployment(5)) == chosen

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istiod.config.kubernetes import Event, Verb
from istiod.watch import objects, weight
from tests.watch.cluster import KINDS, PLACE, ROOT, Played, made


def mesh(text: str) -> dict[str, object]:
    return made("ConfigMap", "istio", ROOT, data={"mesh": text})


SELECTIVE = mesh("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]")


def rule(name: str = "web", namespace: str = "shop", **more: object) -> dict[str, object]:
    return made("VirtualService", name, namespace, spec={"hosts": ["web"], "http": [{"route": [ROUTE]}]}, **more)


ROUTE = {"destination": {"host": "web"}}


def test_what_a_listing_lacks_is_gone() -> None:
    played = Played()
    played.listing(KINDS["Pod"], made("Pod", "a"), made("Pod", "b"))
    played.put(made("Pod", "c"))
    change = played.listing(KINDS["Pod"], made("Pod", "b"))
    assert {key.name for key in change.removed} == {"a", "c"}
    assert played.names() == {"b"}


def test_a_pass_that_breaks_off_before_its_listing_is_complete_removes_nothing() -> None:
    played = Played()
    played.listing(KINDS["Pod"], made("Pod", "a"), made("Pod", "b"))
    played.objects.begin(KINDS["Pod"])
    played.event(Verb.PRESENT, made("Pod", "a"))
    assert played.names() == {"a", "b"}
    played.listing(KINDS["Pod"], made("Pod", "b"))
    assert played.names() == {"b"}


def test_a_deletion_of_an_earlier_object_of_that_name_changes_nothing() -> None:
    played = Played()
    old, new = made("Pod", "a", uid="1"), made("Pod", "a", uid="2")
    played.put(old, new)
    played.delete(old)
    assert played.names() == {"a"}
    played.delete(new)
    assert played.names() == set()


def test_an_object_with_an_error_keeps_its_last_good_version_until_it_is_another_object() -> None:
    played = Played()
    bad = made("VirtualService", "web", spec={"hosts": ["web"], "http": 3})
    played.put(rule(), bad)
    assert played.names() == {"web"}
    (finding,) = played.objects.diagnostics
    assert finding.message.endswith("; its last good version keeps serving")
    played.put({**bad, "metadata": {**bad["metadata"], "uid": "another"}})
    assert played.names() == set()
    (finding,) = played.objects.diagnostics
    assert "keeps" not in finding.message
    played.put(rule(uid="another"))
    assert (played.names(), played.objects.diagnostics) == ({"web"}, ())


def test_a_policy_that_cannot_be_read_refuses_until_it_can() -> None:
    played = Played()
    bad = made("AuthorizationPolicy", "a", spec={"action": "DENY", "rules": 1})
    played.put(bad)
    assert played.names() == {"a"}
    (finding,) = played.objects.diagnostics
    assert finding.message.endswith("refuse what it might forbid")
    played.put({**bad, "spec": {"action": "AUDIT", "rules": 1}})
    assert played.names() == set()
    played.put({**bad, "spec": {"action": "DENY", "rules": [{}]}})
    played.put(bad)
    (finding,) = played.objects.diagnostics
    assert finding.message.endswith("last good version keeps serving")
    played.delete(bad)
    assert (played.names(), played.objects.diagnostics) == (set(), ())


def test_a_finding_goes_with_its_object() -> None:
    played = Played()
    policy = made("WasmPlugin", "mesh", spec={"url": "a"})
    played.put(policy)
    assert [finding.code.name for finding in played.objects.diagnostics] == ["NOT_SUPPORTED"]
    before = played.objects.changes
    played.delete(policy)
    assert (played.objects.diagnostics, dict(played.objects.observed)) == ((), {})
    assert played.objects.changes > before


def test_objects_of_another_revision_are_not_ours_and_leave_when_they_move_there() -> None:
    played = Played()
    played.put(rule("of-all"), rule("ours", labels={"istio.io/rev": "default"}))
    played.put(rule("theirs", labels={"istio.io/rev": "canary"}))
    assert played.names() == {"of-all", "ours"}
    played.put(rule("ours", labels={"istio.io/rev": "canary"}))
    assert played.names() == {"of-all"}
    assert {key.name for key in played.objects.observed} == {"of-all"}


def test_of_config_maps_only_those_are_kept_that_are_read() -> None:
    played = Played()
    played.put(mesh(""), made("ConfigMap", "other", ROOT, data={"a": "b"}))
    assert played.names() == {"istio"}


def test_secrets_are_kept_when_something_names_them() -> None:
    played = Played()
    secret = made("Secret", "cert", "ingress", data={"tls.crt": "eA==", "password": "eA=="})
    played.put(secret)
    assert played.names() == set()
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"]}
    tls = {"mode": "SIMPLE", "credentialName": "kubernetes://ingress/cert"}
    gateway = made("Gateway", "front", "ingress", spec={"servers": [{**server, "tls": tls}]})
    played.put(gateway)
    assert played.objects.credentials == {"cert", "cert-cacert"}
    played.listing(KINDS["Secret"], secret)
    (kept,) = [item for key, item in played.content().items() if key.kind == "Secret"]
    assert kept.model_dump()["data"] == {"tls.crt": "eA=="}
    names = played.objects.credentials
    played.put(gateway, made("Gateway", "plain", "ingress", spec={"servers": [server]}))
    assert played.objects.credentials is names, "nothing else is named"
    played.delete(gateway)
    assert played.objects.credentials == frozenset()
    rules = {"host": "web", "trafficPolicy": {"tls": {"mode": "SIMPLE", "credentialName": "out-cacert"}}}
    played.put(made("DestinationRule", "web", spec={**rules, "subsets": [{"name": "v1"}]}))
    assert {"out", "out-cacert"} <= played.objects.credentials


def test_names_of_several_credentials_are_found() -> None:
    played = Played()
    tls = {"mode": "SIMPLE", "credentialNames": ["rsa", "ecdsa"]}
    played.put(made("Gateway", "front", spec={"servers": [{"tls": tls}]}))
    assert {"rsa", "ecdsa"} <= played.objects.credentials


def test_only_selected_namespaces_are_looked_at_and_the_root_always() -> None:
    played = Played()
    played.put(SELECTIVE, rule("in", "in"), rule("out", "out"), rule("root", ROOT), made("Node", "n"))
    assert played.names("VirtualService") == {"root"}
    played.put(made("Namespace", "in", labels={"mesh": "yes"}), made("Namespace", "out", labels={"mesh": "no"}))
    assert played.names("VirtualService") == {"root", "in"}
    assert played.names("Node") == {"n"}
    assert played.objects.namespaces == ("in",)
    played.put(made("Namespace", "in", labels={}), made("Namespace", "out", labels={"mesh": "yes"}))
    assert played.names("VirtualService") == {"root", "out"}
    played.put(mesh("{}"))
    assert played.names("VirtualService") == {"root", "in", "out"}
    played.put(SELECTIVE)
    assert played.names("VirtualService") == {"root", "out"}
    played.delete(SELECTIVE)
    assert played.names("VirtualService") == {"root", "in", "out"}


def test_findings_about_objects_that_are_not_looked_at_are_not_told() -> None:
    played = Played()
    played.put(SELECTIVE, made("WasmPlugin", "t", "out", spec={"url": "a"}))
    assert played.objects.diagnostics == ()
    played.put(mesh("{}"))
    assert len(played.objects.diagnostics) == 1


def test_a_namespace_that_comes_into_the_selection_counts_as_a_change() -> None:
    """Else no status of its objects would be written before something else changes."""
    played = Played()
    played.put(made("Namespace", "shop", labels={"mesh": "no"}), rule())
    played.put(made("Namespace", "shop", labels={"mesh": "yes"}))
    before = played.objects.changes
    played.put(SELECTIVE, made("Namespace", "shop", labels={"mesh": "no"}))
    hidden = played.objects.changes
    played.put(made("Namespace", "shop", labels={"mesh": "yes"}))
    shown = played.objects.changes
    played.put(made("Namespace", "shop", labels={"mesh": "yes"}))
    assert before < hidden < shown == played.objects.changes
    played.delete(made("Namespace", "shop"))
    assert played.objects.changes > shown


def test_a_namespace_that_goes_away_is_no_longer_written_to() -> None:
    played = Played()
    played.put(made("Namespace", "shop"), made("Namespace", "old"))
    played.put(made("Namespace", "old", deletionTimestamp="2026-01-01T00:00:00Z"))
    assert played.objects.namespaces == ("shop",)
    played.delete(made("Namespace", "shop"))
    assert played.objects.namespaces == ()


@pytest.mark.parametrize("last", ["pod", "namespace"])
def test_policies_of_a_namespace_that_goes_away_go_last(last: str) -> None:
    played = Played()
    policy = made("PeerAuthentication", "strict", spec={"mtls": {"mode": "STRICT"}})
    pod, other, space = made("Pod", "a"), made("Pod", "b"), made("Namespace", "shop")
    played.put(space, policy, pod, other, rule())
    played.put({**space, "metadata": {**space["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    played.delete(policy, pod, rule())
    assert played.names() == {"strict", "b", "shop"}
    played.delete(other if last == "pod" else space)
    assert "strict" not in played.names()


def test_a_policy_that_comes_back_to_its_namespace_stays() -> None:
    played = Played()
    policy = made("PeerAuthentication", "strict", spec={"mtls": {"mode": "STRICT"}})
    space = made("Namespace", "shop", deletionTimestamp="2026-01-01T00:00:00Z")
    played.put(space, made("Pod", "a"), policy)
    played.delete(policy)
    played.put({**policy, "metadata": {**policy["metadata"], "uid": "2"}})
    played.delete(made("Pod", "a"))
    assert "strict" in played.names()


def test_a_policy_in_a_namespace_that_stays_goes_at_once() -> None:
    played = Played()
    policy = made("PeerAuthentication", "strict", spec={"mtls": {"mode": "STRICT"}})
    played.put(made("Namespace", "shop"), made("Pod", "a"), policy)
    played.delete(policy)
    assert "strict" not in played.names()


def test_another_config_map_that_goes_leaves_the_selectors() -> None:
    played = Played()
    injector = made("ConfigMap", "istio-sidecar-injector", ROOT, data={})
    played.put(SELECTIVE, injector, rule("out", "out"))
    played.delete(injector)
    assert played.names() == {"istio"}


def test_selectors_may_be_those_of_a_shared_configuration() -> None:
    place = replace(PLACE, config_maps=PLACE.config_maps | {"shared"}, shared="shared")
    played = Played(place)
    shared = made("ConfigMap", "shared", ROOT, data=SELECTIVE["data"])
    played.put(rule("out", "out"), mesh("trustDomain: a"), shared)
    assert played.names() == {"istio", "shared"}
    played.put(mesh("discoverySelectors: []"))
    assert played.names() == {"istio", "shared", "out"}
    played.put(mesh(""))
    assert played.names() == {"istio", "shared"}
    played.delete(mesh(""))
    assert played.names() == {"shared"}
    played.delete(shared)
    assert played.names() == {"out"}


def test_a_namespace_that_is_gone_is_selected_no_more_whatever_is_heard_first() -> None:
    played = Played()
    labelled = made("Namespace", "in", labels={"mesh": "yes"})
    played.put(labelled, SELECTIVE, rule("a", "in"))
    assert "a" in played.names()
    played.delete(labelled)
    assert "a" not in played.names()
    played.put(labelled)
    assert "a" in played.names()


def test_a_kind_that_is_gone_takes_its_objects_along() -> None:
    played = Played()
    played.put(rule("a"), rule("b"), made("Pod", "p"))
    change = played.objects.vanish(KINDS["VirtualService"])
    assert {key.name for key in change.removed} == {"a", "b"}


def test_the_status_of_an_object_is_observed_and_makes_no_change() -> None:
    played = Played()
    played.put(rule())
    item = played.content()
    raw = rule()
    raw["status"] = {"observedGeneration": 1}
    raw["metadata"] |= {"generation": 2, "resourceVersion": "7"}
    played.put(raw)
    assert all(played.content()[key] is before for key, before in item.items())
    (observed,) = played.objects.observed.values()
    assert (observed.generation, observed.resource_version, observed.status) == (2, "7", {"observedGeneration": 1})


POOL = [
    *(made("Pod", name, space) for name in ("a", "b") for space in ("in", "out")),
    *(
        rule(name, space, labels=labels)
        for name in ("a", "b")
        for space in ("in", "out")
        for labels in ({}, {"x": "y"})
    ),
    made("VirtualService", "a", "in", spec={"hosts": 3}),
    made("PeerAuthentication", "strict", "in", spec={"mtls": {"mode": "STRICT"}}),
    *(made("Namespace", "in", labels=labels) for labels in ({}, {"mesh": "yes"})),
    made("Namespace", "out"),
    SELECTIVE,
    mesh("{}"),
]
EVENTS = st.lists(
    st.tuples(st.sampled_from((Verb.CHANGED, Verb.DELETED)), st.sampled_from(range(len(POOL)))), max_size=30
)


@given(EVENTS, st.randoms(use_true_random=False))
def test_any_order_between_kinds_and_any_repetition_gives_the_same_store(
    events: list[tuple[Verb, int]], random: Random
) -> None:
    """Within a kind the order is the API server's; how the kinds interleave is chance (fault FT6)."""
    by_kind: dict[str, list[tuple[Verb, int]]] = {}
    for verb, index in events:
        by_kind.setdefault(str(POOL[index]["kind"]), []).append((verb, index))
    first, second = Played(), Played()
    for queue in by_kind.values():
        for verb, index in queue:
            first.event(verb, POOL[index])
    queues = [list(queue) for queue in by_kind.values()]
    while queues:
        queue = random.choice(queues)
        verb, index = queue.pop(0)
        for _ in range(random.choice((1, 2))):
            second.event(verb, POOL[index])
        queues = [queue for queue in queues if queue]
    kept = {key: item for key, item in first.content().items() if key.kind != "VirtualService"}
    again = {key: item for key, item in second.content().items() if key.kind != "VirtualService"}
    assert again == kept
    assert second.names("VirtualService") == first.names("VirtualService")


def test_an_object_read_elsewhere_is_taken_as_if_it_was_read_here() -> None:
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"]}
    tls = {"mode": "SIMPLE", "credentialName": "cert"}
    for raw in (
        rule(),
        made("Gateway", "front", spec={"servers": [{**server, "tls": tls}]}),
        made("VirtualService", "web", spec={"hosts": 1}),
    ):
        here, there, kind = Played(), Played(), KINDS[raw["kind"]]
        event = Event(verb=Verb.CHANGED, item=raw)
        expected = here.objects.take(kind, event)
        assert there.objects.take(kind, event, objects.read(kind, raw)) == expected
        assert there.objects.credentials == here.objects.credentials
        assert there.objects.diagnostics == here.objects.diagnostics


def test_what_says_the_same_as_before_is_the_same() -> None:
    first = objects.read(KINDS["VirtualService"], rule()).parsed.object
    assert first is not None
    assert objects.read(KINDS["VirtualService"], rule(), first).parsed.object is first
    other = objects.read(KINDS["VirtualService"], rule(name="other"), first).parsed.object
    assert other is not first


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"http": [{"match": [{"uri": {"exact": "/a"}}]}] * 500}, True),
        ({"http": [{"match": [{"uri": {"exact": "/a"}}]}] * 300}, False),
        ({"hosts": ["a"] * weight.MOST}, True),
        ({"hosts": ["a" * 1_000_000]}, False),
        ({"deep": {"deeper": {"deepest": {str(number): 1 for number in range(weight.MOST)}}}}, True),
        (None, False),
    ],
)
def test_how_large_an_object_is(spec: object, expected: object) -> None:
    assert weight.heavy({"metadata": {"name": "a"}, "spec": spec}) is expected

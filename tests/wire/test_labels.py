"""Istio's labels of the few that Envoy counts by, one reporter after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import labels, telemetry
from wire.labels import Reporter

OWN = {part: f"own-{part}" for part in telemetry.PARTS}
OTHER = {part: f"other-{part}" for part in telemetry.PARTS}
CALLER = "spiffe://cluster.local/ns/shop/sa/web"
SERVICE = {
    "destination_service": "a.b.svc.cluster.local",
    "destination_service_name": "a",
    "destination_service_namespace": "b",
}
REQUEST = {"request_protocol": "grpc", "response_code": "200", "response_flags": "-", "grpc_response_status": "0"}
_WORD = st.text("ab-.", min_size=1, max_size=5)


def short(by: Reporter, *changed: str, **more: str) -> dict[str, str]:
    """What Envoy says of a request to a service."""
    said = {labels.REPORTER: labels.reporter(by, changed), labels.SERVICE: labels.service(*SERVICE.values())}
    return said | REQUEST | more


def principals(source: str, destination: str) -> dict[str, str]:
    return dict(zip(labels.PRINCIPALS, (source, destination), strict=True))


def test_a_client_says_its_own_side_and_the_endpoint_of_the_other() -> None:
    said = short(Reporter.SOURCE, **{labels.PEER: labels.workload(OTHER)}, **principals("spiffe://me", "spiffe://you"))
    assert labels.long(said, OWN) == {
        "reporter": "source",
        **labels.side("source", OWN),
        **labels.side("destination", OTHER),
        **principals("spiffe://me", "spiffe://you"),
        **SERVICE,
        **REQUEST,
        "connection_security_policy": "unknown",
    }


def test_a_server_believes_a_header_but_for_the_namespace() -> None:
    header = ";".join(OTHER.values())
    said = short(Reporter.DESTINATION, **{labels.PEER: header}, **principals(CALLER, "spiffe://me"))
    found = labels.long(said, OWN)
    assert labels.side("source", OTHER | {"namespace": "shop"}).items() <= found.items()
    assert labels.side("destination", OWN).items() <= found.items()
    assert (found["reporter"], found["connection_security_policy"]) == ("destination", "mutual_tls")
    without = {name: value for name, value in said.items() if name not in labels.PRINCIPALS}
    proven = without | {labels.NAMESPACE: "shop", labels.REPORTER: "destination;source_principal"}
    assert labels.long(proven, OWN)["source_workload_namespace"] == "shop"
    assert "source_principal" not in labels.long(proven, OWN)


def test_strangers_and_what_envoy_does_not_know_are_unknown() -> None:
    found = labels.long(short(Reporter.STRANGERS), OWN)
    assert labels.side("source", {}).items() <= found.items()
    assert principals("unknown", "unknown").items() <= found.items()
    assert found["connection_security_policy"] == "none"
    said = short(
        Reporter.SOURCE, request_protocol="-", **{labels.PEER: "-", labels.SERVICE: "-"}, **principals("-", "-")
    )
    found = labels.long(said, OWN)
    assert labels.side("destination", {}).items() <= found.items()
    assert {found[name] for name in (*SERVICE, *labels.PRINCIPALS)} == {"unknown"}
    assert (found["request_protocol"], found["response_flags"]) == ("http", "-")


def test_labels_that_are_left_out_or_replaced_are_the_users() -> None:
    said = short(Reporter.SOURCE, "source_app", "reporter", "verb", reporter="mine", verb="GET")
    assert said[labels.REPORTER] == "source;reporter;source_app"
    found = labels.long(said, OWN)
    assert "source_app" not in found
    assert (found["reporter"], found["verb"]) == ("mine", "GET")
    assert labels.is_summed(said)
    assert not labels.is_summed(short(Reporter.SOURCE))
    assert not labels.is_summed(short(Reporter.STRANGERS))


def test_what_a_client_says_of_its_namespace_makes_no_second_series() -> None:
    told = [short(Reporter.DESTINATION, **{labels.PEER: f"a;{space};a;v1;a;v1;K"}) for space in ("b", "c")]
    assert len({tuple(labels.long(each, OWN).items()) for each in told}) == 1
    assert all(map(labels.is_summed, told))


def test_a_namespace_is_proven_whatever_a_user_has_in_the_principals_place() -> None:
    said = short(Reporter.DESTINATION, "source_principal", source_principal=CALLER, **{labels.NAMESPACE: "real"})
    assert labels.long(said, OWN)["source_workload_namespace"] == "real"


@pytest.mark.parametrize("said", [{}, {labels.REPORTER: "waypoint", "a": "b"}, {"reporter": "source"}])
def test_what_is_none_of_ours_stays_as_it_is(said: dict[str, str]) -> None:
    assert labels.long(said, OWN) == said


def test_names_that_users_cannot_have() -> None:
    assert all(map(labels.is_short, (labels.PEER, "istio-peer", "istio.service")))
    assert not labels.is_short("peer")


@given(parts=st.fixed_dictionaries(dict.fromkeys(telemetry.PARTS, _WORD)), canonical=st.booleans())
def test_a_workload_comes_out_as_it_went_in(*, parts: dict[str, str], canonical: bool) -> None:
    parts |= {"app": parts["service"], "version": parts["revision"]} if canonical else {}
    word = labels.workload(parts)
    assert (
        labels.side("destination", parts).items()
        <= labels.long(short(Reporter.SOURCE, **{labels.PEER: word}), OWN).items()
    )
    assert word.count(";") == (4 if parts["app"] == parts["service"] and parts["version"] == parts["revision"] else 6)


def test_a_separator_in_a_name_moves_no_other_part() -> None:
    word = labels.workload(OTHER | {"cluster": "a;b"})
    found = labels.long(short(Reporter.SOURCE, **{labels.PEER: word}), OWN)
    assert (found["destination_cluster"], found["destination_app"]) == ("a_b", "other-app")

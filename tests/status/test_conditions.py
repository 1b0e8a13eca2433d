from __future__ import annotations

import time
from typing import Any

import pytest

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.key import NETWORKING, ConfigKey
from istiod.config.kubernetes import Resource
from istiod.status import conditions
from istiod.status.observed import Observed, observe

KEY = ConfigKey(NETWORKING, "VirtualService", "shop", "web")
RESOURCE = Resource(group=NETWORKING, version="v1", plural="virtualservices", kind="VirtualService")
NOW = "2026-01-01T00:00:00Z"


def seen(status: Any = None, generation: int = 3) -> Observed:
    return observe(
        {"metadata": {"uid": "u", "generation": generation, "resourceVersion": "9"}, "status": status}, RESOURCE
    )


def said(*found: Diagnostic, serving: bool = True) -> dict[str, tuple[str, str]]:
    status = conditions.wanted(seen(), found, NOW, serving=serving)
    assert status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def error(code: Code, field: str = "spec", message: str = "wrong") -> Diagnostic:
    return diagnostic.error(code, KEY, field, message)


def warning(code: Code, field: str = "spec", message: str = "odd") -> Diagnostic:
    return diagnostic.warning(code, KEY, field, message)


def test_an_object_without_findings_is_accepted_and_in_use() -> None:
    assert said() == {
        "Accepted": ("True", "Accepted"),
        "InUse": ("True", "InUse"),
        "Conflicts": ("False", "NoConflicts"),
        "RejectedByEnvoy": ("False", "NoRejectedByEnvoy"),
    }


@pytest.mark.parametrize(
    ("finding", "changed"),
    [
        (error(Code.BAD_VALUE), {"Accepted": ("False", "BadValue")}),
        (warning(Code.UNKNOWN_HOST), {}),
        (error(Code.NOT_SUPPORTED, ""), {"InUse": ("False", "NotEnforced")}),
        (warning(Code.NOT_SUPPORTED, "spec.tunnel"), {}),
        (warning(Code.INEFFECTIVE), {"InUse": ("False", "Ineffective")}),
        (warning(Code.DUPLICATE_HOST), {"Conflicts": ("True", "DuplicateHost")}),
        (error(Code.REJECTED_BY_ENVOY), {"RejectedByEnvoy": ("True", "RejectedByEnvoy")}),
    ],
    ids=lambda value: value.code.name if isinstance(value, Diagnostic) else "",
)
def test_a_finding_changes_the_condition_that_it_is_about(
    finding: Diagnostic, changed: dict[str, tuple[str, str]]
) -> None:
    assert said(finding) == {**said(), **changed}


def test_an_object_of_which_no_version_serves_is_not_in_use() -> None:
    assert said(error(Code.BAD_VALUE), serving=False)["InUse"] == ("False", "NotAccepted")
    assert said(serving=False)["InUse"] == ("False", "NotRead")


def test_a_condition_names_the_field_and_the_words_are_bounded() -> None:
    status = conditions.wanted(
        seen(), [error(Code.BAD_VALUE, "spec.hosts"), error(Code.BAD_VALUE, "")], NOW, serving=True
    )
    assert status is not None
    assert status["conditions"][0]["message"] == "spec.hosts: wrong; wrong"
    status = conditions.wanted(seen(), [error(Code.BAD_VALUE, message="x" * 5000)], NOW, serving=True)
    assert status is not None
    assert len(status["conditions"][0]["message"]) < 1010


def test_messages_are_those_of_istio_each_once() -> None:
    found = [error(Code.BAD_VALUE), error(Code.BAD_VALUE, "other"), warning(Code.UNKNOWN_HOST)]
    assert conditions.messages(found) == [
        {"type": {"code": "M0005", "name": "BadValue"}, "level": "ERROR"},
        {"type": {"code": "M0103", "name": "UnknownHost"}, "level": "WARNING"},
    ]


def test_a_status_that_says_all_of_it_is_not_written_again() -> None:
    status = conditions.wanted(seen(), [error(Code.BAD_VALUE)], NOW, serving=True)
    assert conditions.wanted(seen(status), [error(Code.BAD_VALUE)], "later", serving=True) is None
    text = {**(status or {}), "observedGeneration": "3"}
    assert conditions.wanted(seen(text), [error(Code.BAD_VALUE)], "later", serving=True) is None
    endless = {**(status or {}), "observedGeneration": "9" * 5000}
    assert conditions.wanted(seen(endless), [error(Code.BAD_VALUE)], "later", serving=True) == status


def test_what_others_wrote_stays_and_a_condition_that_holds_keeps_its_time() -> None:
    foreign = {"type": "Reconciled", "status": "True"}
    status = conditions.wanted(seen({"conditions": [foreign, "odd"]}), [], NOW, serving=True)
    assert status is not None
    assert status["conditions"][0] == foreign
    later = conditions.wanted(seen(status, generation=4), [error(Code.BAD_VALUE)], "later", serving=True)
    assert later is not None
    times = {c["type"]: c.get("lastTransitionTime") for c in later["conditions"]}
    assert (times["Accepted"], times["InUse"]) == ("later", NOW)
    assert {c["observedGeneration"] for c in later["conditions"] if c != foreign} == {4}


def test_events_tell_what_became_bad_and_not_what_was() -> None:
    bad = conditions.wanted(seen(), [error(Code.BAD_VALUE)], NOW, serving=False)
    assert bad is not None
    assert [c["type"] for c in conditions.worsened(seen(), bad)] == ["Accepted"]
    assert list(conditions.worsened(seen(bad), bad)) == []
    good = conditions.wanted(seen(bad), [], NOW, serving=True)
    assert good is not None
    assert list(conditions.worsened(seen(bad), good)) == []


@pytest.mark.parametrize("raw", [{}, {"metadata": {"generation": "x"}, "status": "broken"}])
def test_what_is_malformed_counts_as_absent(raw: dict[str, Any]) -> None:
    found = observe(raw, RESOURCE)
    assert (found.generation, found.status) == (0, {})


@pytest.mark.parametrize(
    "status",
    [
        {"validationMessages": 5},
        {"validationMessages": {"type": {"code": "IST0101"}}},
        {"validationMessages": ["odd", {"type": 5}, {"type": {}}, {"type": {"code": []}}]},
        {"conditions": 5},
        {"conditions": ["odd", {"type": [], "status": {}}]},
    ],
    ids=str,
)
def test_whatever_somebody_writes_into_a_status_ours_is_written(status: dict[str, Any]) -> None:
    """No schema holds a status, and one that stops us would keep back those of all objects after it."""
    found = conditions.wanted(seen(status), [error(Code.BAD_VALUE)], NOW, serving=True, analysed=None)
    assert found is not None
    assert [one["type"]["code"] for one in found["validationMessages"]] == ["M0005"]
    assert [one["type"] for one in conditions.worsened(seen(status), found)] == ["Accepted"]


def test_thousands_of_conflicts_in_one_object_are_little_work() -> None:
    many = tuple(warning(Code.SHADOWED_ROUTE, f"spec.http[{number}]") for number in range(15_000))
    began = time.process_time()
    assert said(*many)["Conflicts"] == ("True", "ShadowedRoute")
    assert time.process_time() - began < 5


def test_addresses_are_written_once_and_others_words_stay() -> None:
    given = [("a.example", "240.240.0.1"), ("a.example", "2001:2::f0f0:1")]
    status = conditions.wanted(seen(), [], NOW, serving=True, addresses=given)
    assert status is not None
    assert status["addresses"] == [{"host": host, "value": value} for host, value in given]
    assert conditions.wanted(seen(status), [], NOW, serving=True, addresses=given) is None
    assert conditions.wanted(seen(status), [], NOW, serving=True) is None


def test_what_the_analyzers_say_stands_beside_our_own_findings_and_stays_until_they_have_run_again() -> None:
    theirs = {"type": {"code": "IST0101", "name": "ReferencedResourceNotFound"}, "level": "ERROR"}
    twice = {"type": {"code": Code.UNKNOWN_HOST.value, "name": "UnknownHost"}, "level": "WARNING"}
    found = [warning(Code.UNKNOWN_HOST)]

    status = conditions.wanted(seen(), found, NOW, serving=True, analysed=[theirs, twice])
    assert status is not None
    assert status["validationMessages"] == [twice, theirs]
    accepted = {one["type"]: one["status"] for one in status["conditions"]}
    assert accepted["Accepted"] == "True"  # what analyzers say is advice
    for given in (None, [theirs, twice], [theirs]):
        assert conditions.wanted(seen(status), found, "later", serving=True, analysed=given) is None, given

    mended = conditions.wanted(seen(status), [], "later", serving=True, analysed=None)
    assert mended is not None
    assert mended["validationMessages"] == [theirs]
    gone = conditions.wanted(seen(mended), [], "later", serving=True, analysed=[])
    assert gone is not None
    assert gone["validationMessages"] == []
    odd = {"validationMessages": ["odd", {"type": "odd"}, {"type": {"code": "IST0130"}}]}
    kept = conditions.wanted(seen(odd), [], NOW, serving=True, analysed=None)
    assert kept is not None
    assert kept["validationMessages"] == [{"type": {"code": "IST0130"}}]

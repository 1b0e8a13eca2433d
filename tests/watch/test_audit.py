"""What a comparison of versions tells."""

from __future__ import annotations

import pytest

from crds.key import ConfigKey
from istiod.watch.audit import differing, lost
from tests.watch.cluster import KINDS, ROOT, Played, made

KEY = ConfigKey("", "Pod", "shop", "a")


@pytest.mark.parametrize(
    ("before", "listed", "after", "differs"),
    [
        ("1", "1", "1", False),
        ("1", "2", "1", True),  # a change that was not heard
        ("1", "2", "2", False),  # it was heard meanwhile
        ("1", "", "1", True),  # a deletion
        ("1", "", "", False),
        ("", "1", "", True),  # a new object
        ("", "1", "1", False),
        ("1", "2", "3", False),
    ],
)
def test_only_what_was_not_heard_differs(before: str, listed: str, after: str, *, differs: bool) -> None:
    versions = [{KEY: version} if version else {} for version in (before, listed, after)]
    assert differing(*versions) == ({KEY: (before, listed)} if differs else {})


@pytest.mark.parametrize(
    ("first", "second", "is_lost"),
    [
        (("1", "2"), ("1", "2"), True),
        (("1", "2"), ("1", "3"), True),
        (("1", ""), ("1", ""), True),
        (("", "5"), ("", "5"), True),
        (("", "5"), ("", "9"), False),  # it came, went, and came again
        (("1", "2"), ("3", "4"), False),
        (("1", "2"), None, False),
    ],
)
def test_lost_is_what_differs_twice_with_nothing_heard_in_between(
    first: tuple[str, str], second: tuple[str, str] | None, *, is_lost: bool
) -> None:
    assert lost({KEY: first}, {} if second is None else {KEY: second}) == ([KEY] if is_lost else [])


def test_versions_are_those_that_were_last_heard_and_go_with_their_objects() -> None:
    played = Played()
    pod = made("Pod", "a")
    pod["metadata"]["resourceVersion"] = "7"
    played.put(pod)
    assert played.objects.versions(KINDS["Pod"]) == {KEY: "7"}
    pod["metadata"]["resourceVersion"] = "8"
    played.put(pod)
    assert played.objects.versions(KINDS["Pod"]) == {KEY: "8"}
    played.delete(pod)
    assert played.objects.versions(KINDS["Pod"]) == {}
    assert played.objects.versions(KINDS["Node"]) == {}


def test_metadata_are_enough_to_know_whether_an_object_concerns_us() -> None:
    played = Played()
    ours, theirs = made("ConfigMap", "istio", ROOT), made("ConfigMap", "other", ROOT)
    found = [played.objects.concerning(KINDS["ConfigMap"], {"metadata": one["metadata"]}) for one in (ours, theirs)]
    assert found == [ConfigKey("", "ConfigMap", ROOT, "istio"), None]

"""Whatever stands in a document, analysis gives findings and no exception; no order of files changes them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from istiod.analysis import analyzers, defaults, kinds, resources
from istiod.analysis.resources import Collection
from tests.analysis import corpus, samples

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(["", "*", "a", "reviews", "*.a.com", "80"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["host", "number", "name", "port", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
DOCUMENTS = corpus.documents()


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values inside a document."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for step, inner in steps for found in ((*way, step), *places(inner, (*way, step)))]


@st.composite
def damaged(draw: st.DrawFn) -> list[Any]:
    """Good objects, some values of which are something else."""
    documents = copy.deepcopy(DOCUMENTS)
    for _ in range(draw(st.integers(1, 12))):
        document = draw(st.sampled_from(documents))
        ways = [way for way in places(document) if way[0] not in ("apiVersion", "kind")]
        way = draw(st.sampled_from(ways)) if ways else None
        if way is not None:
            holder = document
            for step in way[:-1]:
                holder = holder[step]
            holder[way[-1]] = draw(VALUES)
    return documents


def findings(documents: list[Any], mesh: Any = None) -> list[str]:
    found = [one for each in documents if (one := resources.resource(each, default_namespace="default")) is not None]
    pods = [pod for each in found if (pod := resources.template(each)) is not None]
    known = Collection([*found, *defaults.resources({})], templates=pods, mesh=mesh or {}, networks=mesh or {})
    return [str(each) for each in analyzers.run(analyzers.ALL, known)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(damaged(), st.dictionaries(st.sampled_from(["defaultConfig", "extensionProviders", "networks"]), VALUES))
def test_no_document_raises(documents: list[Any], mesh: Any) -> None:
    findings(documents, mesh)


def test_the_corpus_has_each_kind_that_analyzers_look_at() -> None:
    have = {(each["apiVersion"].rpartition("/")[0], each["kind"]) for each in DOCUMENTS}
    assert {kind for kind in kinds.SERVED if kind not in have} <= {kinds.WORKLOAD_GROUP}


@settings(max_examples=25, deadline=None)
@given(st.permutations(DOCUMENTS))
def test_the_order_of_objects_changes_nothing(documents: list[Any]) -> None:
    assert findings(list(documents)) == findings(DOCUMENTS)


@pytest.mark.parametrize("text", ["", "---", "[]", "1", "a: &a [*a]", "kind: List\napiVersion: v1\nitems: [1]", "{"])
def test_text_that_is_no_object_is_no_finding_and_no_crash(text: str) -> None:
    assert samples.analyse(text) == []


def test_findings_survive_json() -> None:
    assert json.loads(json.dumps(findings(DOCUMENTS)))

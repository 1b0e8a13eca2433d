"""Values of the wrong kind, and sections of which nothing is left. Real helm; no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.charts import helm

pytestmark = pytest.mark.apiserver  # of its programs helm is one


@pytest.mark.parametrize(
    "empty",
    [
        {"global": None, "pilot": None, "meshConfig": None, "revisionTags": None, "sidecarInjectorWebhook": None},
        {"global": {"proxy": None, "sds": {"token": None}}, "defaults": {"pilot": {"cni": None, "env": None}}},
    ],
)
def test_sections_of_which_all_is_commented_out_have_their_defaults(empty: Mapping[str, Any]) -> None:
    assert helm.render("istiod", empty) == helm.render("istiod")


def test_a_null_takes_away_what_is_no_section() -> None:
    made = helm.render("istiod", {"pilot": {"resources": {"requests": None}, "replicaCount": 1_000_000}})
    (container,) = helm.one(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert "512Mi" not in str(container["resources"])


@pytest.mark.parametrize(
    ("chart", "values", "said"),
    [
        ("istiod", {"global": 5}, "global must be an object, not 5"),
        ("istiod", {"pilot": "x"}, 'pilot must be an object, not "x"'),
        ("istiod", {"defaults": "x"}, 'defaults must be an object, not "x"'),
        ("istiod", {"meshConfig": []}, "meshConfig must be an object, not []"),
        ("istiod", {"pilot": {"resources": 5}}, "pilot.resources must be an object, not 5"),
        ("istiod", {"replicaCount": "two"}, 'pilot.replicaCount must be a number, not "two"'),
        ("istiod", {"global": {"proxy": {"statusPort": [1]}}}, "global.proxy.statusPort must be a number, not [1]"),
        ("istiod", {"autoscaleEnabled": "ja"}, 'pilot.autoscaleEnabled must be true or false, not "ja"'),
        ("istiod", {"revisionTags": "prod"}, 'revisionTags must be a list, not "prod"'),
        ("istiod", {"global": {"hub": {}}}, "global.hub must be a text, not {}"),
        ("istiod", {"revision": "A B"}, 'revision, revisionTags: "A B" is no name'),
        ("istiod", {"revisionTags": ["a", "b."]}, 'revision, revisionTags: "b." is no name'),
        ("base", {"base": {"excludedCRDs": "x"}}, 'base.excludedCRDs must be a list, not "x"'),
        ("base", {"defaultRevision": 5}, "defaultRevision must be a text, not 5: put it in quotes"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_name(chart: str, values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(helm.RefusedError) as refused:
        helm.render(chart, values)
    assert said in str(refused.value).partition("\n")[0]


def test_both_charts_look_at_kinds_in_the_same_way() -> None:
    one, other = (helm.CHARTS / chart / "templates/_kinds.tpl" for chart in ("istiod", "base"))
    assert one.read_text() == other.read_text()

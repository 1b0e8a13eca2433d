"""How users write values of charts: of every age, empty, of another kind, unknown, without effect. Real helm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.charts import helm

pytestmark = pytest.mark.apiserver  # of its programs helm is one

INERT = yaml.safe_load((helm.CHARTS / "istiod/files/inert.yaml").read_text())
NO_EFFECT = "These values have no effect:"


def findings(said: str) -> dict[str, str]:
    lines = said.partition(NO_EFFECT)[2].strip().splitlines()
    return dict(line.strip().removeprefix("- ").split(": ", 1) for line in lines)


@pytest.mark.parametrize(
    "written",
    [
        {"pilot": {"env": {"PILOT_HTTP10": True}, "autoscaleMin": 4}, "global": {"hub": "h", "tag": 7}},
        {"env": {"PILOT_HTTP10": True}, "autoscaleMin": 4, "global": {"hub": "h", "tag": 7}},
        {"defaults": {"pilot": {"env": {"PILOT_HTTP10": True}, "autoscaleMin": 4}, "global": {"hub": "h", "tag": 7}}},
        {
            "_internal_defaults_do_not_set": {"pilot": {"env": {"PILOT_HTTP10": True}, "autoscaleMin": 4}},
            "global": {"hub": "h", "tag": 7},
        },
    ],
    ids=["as in 1.21", "as in 1.24", "below defaults", "below internal defaults"],
)
def test_values_of_all_ages_load(written: Mapping[str, Any]) -> None:
    made = helm.render("istiod", written)
    container = helm.one(made, "Deployment")["spec"]["template"]["spec"]["containers"][0]

    assert container["image"] == "h/pilot:7"
    assert {"name": "PILOT_HTTP10", "value": "true"} in container["env"]
    assert helm.one(made, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 4


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
    made = helm.render("istiod", {"pilot": {"resources": {"requests": None}}})
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


def test_a_profile_stands_between_defaults_and_users_values() -> None:
    made = helm.render("istiod", {"profile": "demo", "pilot": {"traceSampling": 5}})
    container = helm.one(made, "Deployment")["spec"]["template"]["spec"]["containers"][0]

    assert container["resources"]["requests"] == {"cpu": "10m", "memory": "100Mi"}
    assert {"name": "PILOT_TRACE_SAMPLING", "value": "5"} in container["env"]
    with pytest.raises(helm.RefusedError, match="there is no profile"):
        helm.render("istiod", {"profile": "../x"})


def test_istios_own_defaults_load_in_silence() -> None:
    written: dict[str, Any] = {}
    for path, entry in INERT.items():
        written = helm.merged(helm.nested(path, entry["default"]), written)

    assert NO_EFFECT not in helm.notes("istiod", written)
    assert NO_EFFECT not in helm.notes("istiod")
    assert NO_EFFECT not in helm.notes("istiod", {"pilot": {"cni": {"enabled": True, "chained": False}}})


def test_every_value_without_effect_is_named_with_the_reason() -> None:
    written: dict[str, Any] = {}
    for path in INERT:
        written = helm.merged(helm.nested(path, "something else"), written)

    assert findings(helm.notes("istiod", written)) == {path: entry["why"] for path, entry in INERT.items()}


def test_values_that_nobody_knows_are_named() -> None:
    variables = {"PILOT_NO_SUCH": "1", "MAX_CONCURRENT_STREAMS": "1", "HTTPS_PROXY": "http://p", "PYTHONUTF8": "1"}
    written = {
        "pilot": {"replicaCuont": 3, "env": variables, "podLabels": {"a": "b"}},
        "meshConfig": {"defaultConfig": {"concurrency": 2}},
        "globl": {"hub": "h"},
    }

    assert set(findings(helm.notes("istiod", written))) == {
        "pilot.replicaCuont",
        "pilot.env.PILOT_NO_SUCH",
        "pilot.env.MAX_CONCURRENT_STREAMS",
        "globl",
    }

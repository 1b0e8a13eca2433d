"""How users write the values of charts: of every age of Istio's, of a profile, without effect, unknown. Real helm."""

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

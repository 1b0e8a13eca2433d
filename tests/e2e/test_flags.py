"""The chart starts istiod with flags that istiod knows: found here at once, where a node would take minutes."""

from __future__ import annotations

import re

import pytest

from e2e.harness.mesh import REPOSITORY
from istiod.__main__ import parser, require_source
from istiod.supervision import SettingsError


def test_istiod_knows_the_flags_of_its_chart() -> None:
    template = (REPOSITORY / "charts/istiod/templates/deployment.yaml").read_text()
    flags = re.findall(r"(--\w+)=", template)
    said = [f"{flag}=cluster.local" for flag in flags]

    arguments = parser().parse_args(["discovery", *said])

    assert {"--domain", "--httpsAddr"} <= set(flags)
    assert arguments.domain == "cluster.local"


@pytest.mark.parametrize("flag", ["--trustDomain", "--caDir", "--stateDir", "--tokenKey"])
def test_what_a_cluster_says_itself_is_refused_beside_it(flag: str) -> None:
    said = ["discovery", flag, "example.org"]
    require_source(parser().parse_args([*said, "--configDir", "rules"]))
    with pytest.raises(SettingsError, match=f"{flag} is for --configDir"):
        require_source(parser().parse_args(said))

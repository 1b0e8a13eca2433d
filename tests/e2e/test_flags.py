"""The chart starts istiod with flags that istiod knows: found here at once, where a node would take minutes."""

from __future__ import annotations

import re

import pytest

from e2e.harness.mesh import REPOSITORY
from istiod.__main__ import parser, require_folder
from istiod.supervision import SettingsError


def test_istiod_knows_the_flags_of_its_chart() -> None:
    template = (REPOSITORY / "charts/istiod/templates/deployment.yaml").read_text()
    flags = re.findall(r"(--\w+)=", template)
    said = [f"{flag}=cluster.local" for flag in flags]

    arguments = parser().parse_args(["discovery", *said])

    assert {"--domain", "--httpsAddr"} <= set(flags)
    assert arguments.domain == "cluster.local"


def test_a_trust_domain_beside_the_one_of_the_cluster_is_refused() -> None:
    said = ["discovery", "--trustDomain", "example.org"]
    require_folder(parser().parse_args([*said, "--configDir", "rules"]))
    with pytest.raises(SettingsError, match="--trustDomain is for --configDir"):
        require_folder(parser().parse_args(said))

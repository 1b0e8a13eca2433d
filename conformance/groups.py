"""The groups of cases that the project covers so far: where each stands, and who judges a case."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance import (
    analyses,
    authentication,
    authorization,
    bootstraps,
    captures,
    entries,
    injection,
    patches,
    traffic,
    verdicts,
)
from conformance.difference import Difference

Judge = Callable[[Path], Iterator[Difference]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cases of one kind: files or folders that match ``patterns`` below the folder of cases, each with its judge.

    ``takes`` looks into a case and says whether it is of the group. A group that is not ``usual`` runs when named.
    """

    name: str
    patterns: Mapping[str, Judge]
    takes: Callable[[Any], bool] | None = None
    usual: bool = True

    def cases(self, root: Path) -> Iterator[tuple[Path, Judge]]:
        """Every case, by name."""
        for pattern, judge in self.patterns.items():
            for path in sorted(root.glob(pattern)):
                if not path.name.endswith(".xds.json") and self._takes(path):
                    yield path, judge

    def _takes(self, path: Path) -> bool:
        return self.takes is None or self.takes(json.loads(path.read_text()))


def name_of(path: Path) -> str:
    """What a case is called: its file without endings, or the folder of a scenario."""
    if path.name == "proxies.json":
        return path.parent.name
    return path.name.removesuffix(".json").removesuffix(".yaml")


GROUPS: tuple[Group, ...] = (
    Group(name="scenarios", patterns={"scenarios/*/proxies.json": traffic.scenario}),
    Group(name="simulation", patterns={"simulation/*.json": traffic.simulation}),
    Group(name="xds", patterns={"xds/*/*.json": traffic.recording}, takes=traffic.is_complete),
    Group(name="iptables", patterns={"iptables/cases/*.json": captures.restore_input}),
    Group(name="bootstrap", patterns={"bootstrap/cases/*.json": bootstraps.golden}),
    Group(name="inject", patterns={"inject/cases/*.json": injection.pod}),
    Group(
        name="inject_required",
        patterns={
            "inject/inject_required/*.json": injection.required,
            "inject/custom_templates/*.json": injection.template,
        },
    ),
    Group(name="validation", patterns={"validation/cases/**/*.json": verdicts.verdict}, takes=verdicts.is_modelled),
    Group(name="envoyfilter", patterns={"endpoints_routing/envoyfilter/cases/*.json": patches.unit}),
    Group(name="authz", patterns={"authz/cases/*.json": authorization.unit}),
    Group(name="authn", patterns={"authn/cases/*.json": authentication.policy}),
    Group(name="se_services", patterns={"endpoints_routing/serviceentry/se_services/*.json": entries.services}),
    Group(name="se_instances", patterns={"endpoints_routing/serviceentry/se_instances/*.json": entries.instances}),
    Group(name="analysis", patterns={"analysis/cases/*.json": analyses.messages}),
    Group(
        name="xds_services",
        patterns={"xds/*/*.json": traffic.recording},
        takes=traffic.is_approximated,
        usual=False,
    ),
)

BY_NAME: Mapping[str, Group] = {group.name: group for group in GROUPS}

"""Releases of the charts beside the one that a story has: one before it, and further revisions.

A release of an earlier version is made of this checkout's charts and images under another version and another tag. So
an upgrade from it replaces each object and each pod as one from a published release does; what it cannot show is a
difference in what two versions do.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from e2e.harness import images
from e2e.harness.controlplane import Cluster
from e2e.harness.mesh import REPOSITORY, SYSTEM, VALUES, helm
from e2e.harness.process import ClusterError

BEFORE: Final = "0.0.9"
"""Version, and tag of the images, of the release before this one."""
_CHARTS: Final = REPOSITORY / "charts"
_PROGRAMS: Final = ("pilot", "proxyv2")
_PATIENCE: Final = "100s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A chart under a name. ``values`` are laid over those with which stories install it."""

    chart: str
    name: str
    charts: Path = _CHARTS
    values: Mapping[str, Any] = field(default_factory=dict)

    def install(self, cluster: Cluster) -> str:
        """``helm install``, without waiting for pods; the notes that the user reads."""
        return helm(cluster, "install", *self._arguments(cluster), "--create-namespace")

    def upgrade(self, cluster: Cluster) -> str:
        """``helm upgrade --wait``: until the Deployments consist of new pods."""
        return helm(cluster, "upgrade", *self._arguments(cluster), "--wait", f"--timeout={_PATIENCE}")

    def uninstall(self, cluster: Cluster) -> None:
        """``helm uninstall --wait``."""
        helm(cluster, "uninstall", self.name, "-n", SYSTEM, "--wait", f"--timeout={_PATIENCE}")

    def _arguments(self, cluster: Cluster) -> list[str]:
        file = cluster.home / f"{self.name}-values.json"
        file.write_text(json.dumps(_over(VALUES.get(self.chart, {}), self.values)))
        return [self.name, str(self.charts / self.chart), "-n", SYSTEM, "-f", str(file)]


def before(cluster: Cluster) -> Path:
    """The charts of the release before this one, whose images the node has as well; the folder that holds them."""
    folder = cluster.home / "charts-before"
    shutil.copytree(_CHARTS, folder, dirs_exist_ok=True)
    for file in folder.glob("*/Chart.yaml"):
        file.write_text(re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {BEFORE}", file.read_text()))
    for name in _PROGRAMS:
        _tag(cluster, f"{images.HUB}/{name}:{images.TAG}", f"{images.HUB}/{name}:{BEFORE}")
    return folder


@contextmanager
def installed(cluster: Cluster, *releases: Release) -> Iterator[None]:
    """Releases in this order until the block ends, then uninstalled in the other one."""
    for release in releases:
        release.install(cluster)
    yield
    for release in reversed(releases):
        release.uninstall(cluster)


def _tag(cluster: Cluster, image: str, name: str) -> None:
    """Give an image of a node of ours a second name.

    Raises:
        ClusterError: the cluster is the user's, who has to bring the image; or containerd refuses.
    """
    if cluster.namespace is None:
        raise ClusterError(f"the cluster has to hold {image} as {name} too")
    mounts = cluster.namespace.with_name("mnt")
    ctr = ["ctr", "-a", str(cluster.home / "containerd" / "containerd.sock"), "-n", "k8s.io"]
    command = ["nsenter", f"--mount={mounts}", "--", *ctr, "images", "tag", "--force", image, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values over values, as helm lays them."""
    result = copy.deepcopy(dict(below))
    for name, value in above.items():
        inner = result.get(name)
        result[name] = _over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result

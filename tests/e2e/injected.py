"""Pods that are made all the time, and whether the webhook gave each its sidecar.

They are made for show (``--dry-run=server``): the API server asks the webhooks as for any pod, and none has to run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.harness import images
from e2e.harness.controlplane import Cluster

PERIOD = 0.2
"""Seconds between two pods, and what kubectl takes."""


@dataclass(slots=True)
class Made:
    """How many pods were made, and what was wrong with those that were refused or have no sidecar."""

    count: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def making(cluster: Cluster, namespace: str) -> Iterator[Made]:
    """Make pods in a namespace as long as the block lasts."""
    found, over = Made(), threading.Event()

    def make() -> None:
        while not over.wait(PERIOD):
            name = f"injected-{found.count}"
            image = f"--image={images.PAUSE}"
            done = cluster.call("kubectl", "run", name, image, "-n", namespace, "--dry-run=server", "-o", "json")
            found.count += 1
            if done.returncode != 0:
                found.wrong.append(f"{name}: {done.stderr.strip()}")
                continue
            spec = json.loads(done.stdout)["spec"]
            containers = [*spec["containers"], *spec.get("initContainers", ())]
            if not any(each["name"] == "istio-proxy" for each in containers):
                found.wrong.append(f"{name}: no sidecar")

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()

"""Kinds that people name pods by (``deploy/web``), and where the API has them. What is behind one is the cluster's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_APPS: Final = "/apis/apps/v1"
PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "deployment": (_APPS, "deployments"),
    "deploy": (_APPS, "deployments"),
    "replicaset": (_APPS, "replicasets"),
    "rs": (_APPS, "replicasets"),
    "statefulset": (_APPS, "statefulsets"),
    "sts": (_APPS, "statefulsets"),
    "daemonset": (_APPS, "daemonsets"),
    "ds": (_APPS, "daemonsets"),
    "job": ("/apis/batch/v1", "jobs"),
    "service": ("/api/v1", "services"),
    "svc": ("/api/v1", "services"),
}
"""What may stand before a name, and where the API has it; plurals are understood too."""

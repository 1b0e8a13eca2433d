"""What is known of pods and their containers, and how Kubernetes would write it down. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from node.objects import Raw, copied


class Phase(Enum):
    """Where a container stands."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


@dataclass(slots=True, kw_only=True)
class ContainerState:
    """One container as of now. ``since`` is an RFC 3339 time; ``sidecar``: an init container that keeps running."""

    name: str
    image: str
    phase: Phase = Phase.WAITING
    reason: str = "ContainerCreating"
    message: str = ""
    exit_code: int = 0
    started: bool = False
    ready: bool = False
    restarts: int = 0
    since: str = ""
    sidecar: bool = False

    def document(self) -> Raw:
        """As core/v1 ContainerStatus."""
        state: Raw = {}
        if self.phase is Phase.RUNNING:
            state = {"startedAt": self.since}
        elif self.phase is Phase.TERMINATED:
            state = {"exitCode": self.exit_code, "reason": self.reason, "finishedAt": self.since}
        else:
            state = {"reason": self.reason} | ({"message": self.message} if self.message else {})
        return {
            "name": self.name,
            "image": self.image,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": {self.phase.value: state},
        }


@dataclass(slots=True, kw_only=True)
class PodState:
    """One pod as of now."""

    address: str
    node: str
    host_address: str
    init: list[ContainerState]
    containers: list[ContainerState]
    created: str = ""
    deleted: str = ""
    initialized: bool = False

    @property
    def ready(self) -> bool:
        """Whether every container is, including sidecars among the init containers."""
        sidecars = [c for c in self.init if c.sidecar]
        return self.initialized and all(c.ready for c in (*sidecars, *self.containers))

    @property
    def phase(self) -> str:
        """Kubernetes' one word for the pod."""
        if self.containers and all(c.phase is Phase.TERMINATED for c in self.containers):
            return "Failed" if any(c.exit_code for c in self.containers) else "Succeeded"
        return "Running" if self.initialized and any(c.phase is Phase.RUNNING for c in self.containers) else "Pending"


def _condition(kind: str, value: bool) -> Raw:  # noqa: FBT001 (a condition is true or false)
    return {"type": kind, "status": "True" if value else "False"}


def document(pod: Raw, state: PodState) -> Raw:
    """The Pod as an API server would give it."""
    whole = copied(pod)
    meta, spec = whole["metadata"], whole.setdefault("spec", {})
    meta["creationTimestamp"] = state.created
    if state.deleted:
        meta["deletionTimestamp"] = state.deleted
    spec["nodeName"] = state.node
    spec.setdefault("serviceAccountName", "default")
    status: dict[str, Any] = {
        "phase": state.phase,
        "conditions": [
            _condition("PodScheduled", value=True),
            _condition("Initialized", state.initialized),
            _condition("ContainersReady", state.ready),
            _condition("Ready", state.ready),
        ],
        "containerStatuses": [c.document() for c in state.containers],
    }
    if state.init:
        status["initContainerStatuses"] = [c.document() for c in state.init]
    if state.address:
        addresses = {"podIP": state.address, "podIPs": [{"ip": state.address}], "hostIP": state.host_address}
        status |= addresses
    return whole | {"status": status}


def pods_table(pods: Iterable[Raw]) -> str:
    """Pods as ``kubectl get pods -A`` shows them, with what keeps one from running."""
    rows: list[Sequence[str]] = [("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "")]
    for pod in pods:
        meta, found = pod["metadata"], pod["status"]
        main = found["containerStatuses"]
        everyone = [*found.get("initContainerStatuses", ()), *main]
        waiting = [c["state"]["waiting"] for c in everyone if "waiting" in c["state"]]
        stuck = [w for w in waiting if w["reason"] not in {"ContainerCreating", "PodInitializing"}]
        shown = "Terminating" if "deletionTimestamp" in meta else stuck[0]["reason"] if stuck else found["phase"]
        message = next((w["message"] for w in waiting if w.get("message")), "")
        counts = f"{sum(c['ready'] for c in main)}/{len(main)}", shown, str(sum(c["restartCount"] for c in everyone))
        rows.append((meta["namespace"], meta["name"], *counts, found.get("podIP", ""), message))
    return table(rows)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns, as kubectl prints them."""
    lines = [tuple(row) for row in rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))] if lines else []
    padded = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in lines)
    return "\n".join(line.rstrip() for line in padded)

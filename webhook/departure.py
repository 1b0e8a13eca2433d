"""Containers that wait, before they end, until nobody sends to their pod any more (features row Z5). Pure.

What they wait for is the agent's to know: see agent.departure. A container with a hook of its own has its user's way of
waiting, and keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping

from webhook.decision import part
from webhook.settings import Json
from wire import names

DEFAULT_GRACE = 30
"""Seconds that Kubernetes gives a pod which says nothing else."""


def holding(container: Mapping[str, object], agent_port: int) -> Json:
    """The container, which the kubelet asks to end only when the agent has answered."""
    lifecycle = part(container, "lifecycle")
    if lifecycle.get("preStop"):
        return dict(container)
    hook = {"httpGet": {"path": names.RELEASED_PATH, "port": agent_port}}
    return {**container, "lifecycle": {**lifecycle, "preStop": hook}}


def environment(spec: Mapping[str, object]) -> dict[str, str]:
    """What the agent has to know of its pod: for how long it may take."""
    grace = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    return {names.GRACE_PERIOD: str(grace)}

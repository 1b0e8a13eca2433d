"""What our two sidecars are told in turn: all that costs something is on, then one part after the other off."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from istiod.envoy import access_log
from wire import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is on. ``rules``: logs name the rule that routed; ``access``: the server has an AuthorizationPolicy."""

    name: str
    metrics: bool = True
    logs: bool = True
    rules: bool = True
    access: bool = True

    def text(self) -> str:
        """The objects, as YAML: the same ones for each variant, so that the next replaces them."""
        mesh: dict[str, Any] = {"accessLogFile": "/dev/stdout"} if self.logs else {}
        if not self.rules:
            mesh["accessLogFormat"] = access_log.TEXT  # Istio's own: our default has the rule's name after it
        config = {"apiVersion": "v1", "kind": "ConfigMap"} | _named("istio", names.ROOT_NAMESPACE)
        metrics = [] if self.metrics else [{"overrides": [{"disabled": True}]}]
        telemetry = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry"} | _named("all", names.ROOT_NAMESPACE)
        return "\n---\n".join(
            json.dumps(each)
            for each in (
                config | {"data": {"mesh": json.dumps(mesh)}},
                telemetry | {"spec": {"metrics": metrics}},
                _policy("server" if self.access else "nobody"),
            )
        )


def _named(name: str, namespace: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}}


def _policy(app: str) -> dict[str, Any]:
    """Who may call what: of three rules the last one holds, so all are looked at."""
    client = f"{names.DEFAULT_TRUST_DOMAIN}/ns/default/sa/client"
    rules = [
        {"from": [{"source": {"principals": [client]}}], "to": [{"operation": {"methods": ["DELETE"]}}]},
        {"from": [{"source": {"namespaces": ["elsewhere"]}}]},
        {"from": [{"source": {"principals": [client]}}], "to": [{"operation": {"paths": ["/echo*"]}}]},
    ]
    policy = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"} | _named("server", "default")
    return policy | {"spec": {"selector": {"matchLabels": {"app": app}}, "rules": rules}}


ALL: Final = Variant(name="all on")
DEFAULT: Final = Variant(name="as installed", logs=False, access=False)
"""Metrics, no access logs, no policies: Istio's defaults and ours."""
PARTS: Final = (
    replace(ALL, name="without metrics", metrics=False),
    replace(ALL, name="without access logs", logs=False),
    replace(ALL, name="without rules in access logs", rules=False),
    replace(ALL, name="without authorization", access=False),
    Variant(name="none of these", metrics=False, logs=False, access=False),
)

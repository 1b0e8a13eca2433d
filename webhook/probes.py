"""Probes and hooks of the app's containers, sent through the agent (features A10). Pure.

The kubelet has no mesh certificate, so a STRICT pod would refuse its probes: the agent asks in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from webhook.decision import items, part
from webhook.settings import Json

_PROBES = {"livenessProbe": "livez", "readinessProbe": "readyz", "startupProbe": "startupz"}
_HOOKS = {"postStart": "poststartz", "preStop": "prestopz"}
_HANDLERS = ("httpGet", "tcpSocket", "grpc")


def rewrite(container: Mapping[str, object], agent_port: int) -> tuple[Json, Mapping[str, Json]]:
    """(the container with its probes sent to the agent, agent path -> what the agent is to ask)."""
    changed: Json = dict(container)
    asked: dict[str, Json] = {}
    name = str(container.get("name"))
    for field, ending in _PROBES.items():
        probe = part(container, field)
        if handler := _handler(probe, agent_port):
            path = f"/app-health/{name}/{ending}"
            asked[path] = _original(probe, handler, container)
            changed[field] = _redirected(probe, handler, path, agent_port)
    lifecycle = dict(part(container, "lifecycle"))
    for field, ending in _HOOKS.items():
        hook = part(lifecycle, field)
        if handler := _handler(hook, agent_port):
            path = f"/app-lifecycle/{name}/{ending}"
            asked[path] = _original(hook, handler, container)
            lifecycle[field] = _redirected(hook, handler, path, agent_port)
    if lifecycle:
        changed["lifecycle"] = lifecycle
    return changed, asked


def _handler(probe: Mapping[str, object], agent_port: int) -> str:
    """Which handler asks over the network; "" for commands, and for probes of the agent itself."""
    handler = next((each for each in _HANDLERS if isinstance(probe.get(each), Mapping)), "")
    return "" if handler and part(probe, handler).get("port") == agent_port else handler


def _original(probe: Mapping[str, object], handler: str, container: Mapping[str, object]) -> Json:
    target = dict(part(probe, handler))
    if isinstance(target.get("port"), str):
        named = {port.get("name"): port.get("containerPort") for port in items(container.get("ports"))}
        target["port"] = named.get(target["port"], target["port"])
    original: Json = {handler: target}
    if "timeoutSeconds" in probe:
        original["timeoutSeconds"] = probe["timeoutSeconds"]
    return original


def _redirected(probe: Mapping[str, object], handler: str, path: str, agent_port: int) -> Json:
    # The agent speaks plain HTTP; to the app it speaks what the probe asked for.
    kept = {key: value for key, value in part(probe, "httpGet").items() if key in {"httpHeaders", "scheme"}}
    if "scheme" in kept:
        kept["scheme"] = "HTTP"
    return {
        **{key: value for key, value in probe.items() if key != handler},
        "httpGet": {**kept, "path": path, "port": agent_port},
    }

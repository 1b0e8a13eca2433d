"""What the user asked of the proxy and does not get, in words for the agent's log (docs/limits.md)."""

from __future__ import annotations

from collections.abc import Iterator

from agent.bootstrap import telemetry
from agent.bootstrap.inputs import Inputs
from wire import variables


def of(inputs: Inputs) -> Iterator[str]:
    """One line for each field of ProxyConfig and each variable that is set in vain."""
    for field in telemetry.unsupported(inputs.config):
        yield f"ProxyConfig {field}: not supported by this Envoy, ignored"
    for name in variables.in_vain(inputs.environment):
        yield f"{name} is set and has no effect"

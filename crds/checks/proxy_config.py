"""ProxyConfig objects: what a pod could not start with (features row K5)."""

from __future__ import annotations

from crds import path
from crds.checks import labels
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.proxy_config_object import ProxyConfig
from wire import variables


def check(item: ProxyConfig, found: Findings) -> None:
    """Everything that one ProxyConfig can be wrong about, and variables without effect."""
    spec = item.spec
    if spec.concurrency is not None and spec.concurrency < 0:
        found.error("spec.concurrency", "must not be negative; 0 is one thread for each CPU")
    if spec.selector is not None:
        labels.selector(found, "spec.selector.matchLabels", spec.selector.match_labels)
    for name in spec.environment_variables:
        if not variables.is_name(name):
            message = f"{name!r} is no name of a variable: it is left out"
            found.warning(path.child("spec.environmentVariables", name), message)
    for name in variables.in_vain(spec.environment_variables):
        place = path.child("spec.environmentVariables", name)
        found.warning(place, "is read and has no effect yet", Code.NOT_SUPPORTED)

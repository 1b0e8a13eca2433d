"""Checks of one object, beyond what its model says (Istio's own validation is the guide).

Findings that need other objects (a missing subset, two rules for one host) belong to istiod.mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from crds import apps, core, discovery
from crds import authorization_policy as ap
from crds import destination_rule as dr
from crds import envoy_filter as ef
from crds import extension as ex
from crds import gateway as gw
from crds import local_rate_limit as rl
from crds import peer_authentication as pa
from crds import proxy_config_object as pc
from crds import request_authentication as ra
from crds import service_entry as se
from crds import sidecar as sc
from crds import telemetry as tl
from crds import virtual_service as vs
from crds.checks import (
    authorization_policy,
    envoy_filter,
    extension,
    gateway,
    kubernetes,
    local_rate_limit,
    peer_authentication,
    proxy_config,
    request_authentication,
    service_entry,
    sidecar,
    telemetry,
    traffic_policy,
    virtual_service,
    workload,
)
from crds.checks.findings import Findings
from crds.diagnostic import Diagnostic
from crds.meta import Object

_CHECKS: Final[Mapping[type[Object], Callable[[Any, Findings], None]]] = {
    vs.VirtualService: virtual_service.check,
    dr.DestinationRule: traffic_policy.check,
    gw.Gateway: gateway.check,
    se.ServiceEntry: service_entry.check,
    se.WorkloadEntry: workload.entry,
    se.WorkloadGroup: workload.group,
    sc.Sidecar: sidecar.check,
    ef.EnvoyFilter: envoy_filter.check,
    pc.ProxyConfig: proxy_config.check,
    ap.AuthorizationPolicy: authorization_policy.check,
    pa.PeerAuthentication: peer_authentication.check,
    ra.RequestAuthentication: request_authentication.check,
    rl.LocalRateLimit: local_rate_limit.check,
    tl.Telemetry: telemetry.check,
    ex.WasmPlugin: extension.wasm_plugin,
    ex.TrafficExtension: extension.traffic_extension,
    core.Service: kubernetes.service,
    core.Pod: kubernetes.pod,
    apps.Deployment: kubernetes.template,
    apps.ReplicaSet: kubernetes.template,
    apps.StatefulSet: kubernetes.template,
    apps.DaemonSet: kubernetes.template,
    discovery.EndpointSlice: kubernetes.endpoint_slice,
}


def check(item: Object) -> tuple[Diagnostic, ...]:
    """Findings about one object that its model accepted."""
    found = Findings(item.key)
    if (run := _CHECKS.get(type(item))) is not None:
        run(item, found)
    return found.all()

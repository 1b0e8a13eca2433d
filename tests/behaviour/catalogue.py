"""All cases."""

from __future__ import annotations

from tests.behaviour import (
    cases_access_logs,
    cases_balancing,
    cases_connections,
    cases_credentials,
    cases_ejection,
    cases_gateway,
    cases_http,
    cases_http_actions,
    cases_http_faults,
    cases_ingress,
    cases_l4,
    cases_mesh,
    cases_mesh_security,
    cases_mesh_traffic,
    cases_networks,
    cases_patch_places,
    cases_patches,
    cases_pools,
    cases_ports,
    cases_protocols,
    cases_sidecar,
)
from tests.behaviour.case import Case

CASES: list[Case] = [
    *cases_http.CASES,
    *cases_http_actions.CASES,
    *cases_http_faults.CASES,
    *cases_l4.CASES,
    *cases_balancing.CASES,
    *cases_ejection.CASES,
    *cases_connections.CASES,
    *cases_gateway.CASES,
    *cases_sidecar.CASES,
    *cases_ingress.CASES,
    *cases_credentials.CASES,
    *cases_mesh.CASES,
    *cases_mesh_security.CASES,
    *cases_mesh_traffic.CASES,
    *cases_networks.CASES,
    *cases_protocols.CASES,
    *cases_patches.CASES,
    *cases_patch_places.CASES,
    *cases_pools.CASES,
    *cases_ports.CASES,
    *cases_access_logs.CASES,
]

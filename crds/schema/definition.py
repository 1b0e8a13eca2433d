"""Whole CustomResourceDefinitions: names, versions, columns, and the schema around each kind's spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from crds import (
    destination_rule,
    gateway,
    local_rate_limit,
    peer_authentication,
    registry,
    service_entry,
    sidecar,
    virtual_service,
)
from crds.key import NETWORKING, SECURITY, TELEMETRY
from crds.meta import Model
from crds.schema import common, extensions, limits, networking, security, structural, telemetry
from crds.schema.shape import Schema

_EXTENSIONS: Final = "extensions.istio.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One that ``kubectl get`` shows."""

    name: str
    path: str
    text: str
    type: str = "string"


AGE: Final = Column(
    name="Age",
    path=".metadata.creationTimestamp",
    type="date",
    text="When the object was made.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind. ``stored`` "" is the first of its versions; ``optional`` means that an object may have no spec."""

    group: str
    name: str
    spec: Callable[[], Schema]
    short: str = ""
    columns: tuple[Column, ...] = ()
    stored: str = ""
    optional: bool = True


def _of(model: type[Model]) -> Callable[[], Schema]:
    return lambda: structural.schema(model)


def _group_template() -> Schema:
    """A WorkloadEntry to be, which gets its address when it registers."""
    made = structural.schema(service_entry.WorkloadEntrySpec)
    kept = [each for each in made["x-kubernetes-validations"] if each["rule"] != limits.ADDRESS_RULE[0]]
    return {**made, "description": "What the entries look like.", "x-kubernetes-validations": kept}


KINDS: Final = (
    Kind(
        group=NETWORKING,
        name="DestinationRule",
        short="dr",
        spec=_of(destination_rule.DestinationRuleSpec),
        columns=(Column(name="Host", path=".spec.host", text="The host that the policies are for."), AGE),
    ),
    Kind(group=NETWORKING, name="EnvoyFilter", spec=networking.envoy_filter),
    Kind(group=NETWORKING, name="Gateway", short="gw", spec=_of(gateway.GatewaySpec)),
    Kind(group=NETWORKING, name="ProxyConfig", spec=networking.proxy_config),
    Kind(
        group=NETWORKING,
        name="ServiceEntry",
        short="se",
        spec=_of(service_entry.ServiceEntrySpec),
        optional=False,
        columns=(
            Column(name="Hosts", path=".spec.hosts", text="The hosts that are declared."),
            Column(name="Location", path=".spec.location", text="Inside of the mesh, or outside."),
            Column(name="Resolution", path=".spec.resolution", text="How the hosts' addresses are found."),
            AGE,
        ),
    ),
    Kind(group=NETWORKING, name="Sidecar", spec=_of(sidecar.SidecarSpec)),
    Kind(
        group=NETWORKING,
        name="VirtualService",
        short="vs",
        spec=_of(virtual_service.VirtualServiceSpec),
        columns=(
            Column(name="Gateways", path=".spec.gateways", text="Gateways, or the mesh, where the routes apply."),
            Column(name="Hosts", path=".spec.hosts", text="The hosts that the routes are for."),
            AGE,
        ),
    ),
    Kind(
        group=NETWORKING,
        name="WorkloadEntry",
        short="we",
        spec=_of(service_entry.WorkloadEntrySpec),
        optional=False,
        columns=(AGE, Column(name="Address", path=".spec.address", text="The workload's address.")),
    ),
    Kind(
        group=NETWORKING,
        name="WorkloadGroup",
        short="wg",
        spec=lambda: networking.workload_group(_group_template()),
        optional=False,
        columns=(AGE,),
    ),
    Kind(
        group=SECURITY,
        name="AuthorizationPolicy",
        short="ap",
        spec=security.authorization_policy,
        columns=(Column(name="Action", path=".spec.action", text="What happens to requests that match."), AGE),
    ),
    Kind(
        group=SECURITY,
        name="PeerAuthentication",
        short="pa",
        spec=_of(peer_authentication.PeerAuthenticationSpec),
        columns=(Column(name="Mode", path=".spec.mtls.mode", text="Whether mutual TLS is demanded."), AGE),
    ),
    Kind(group=SECURITY, name="RequestAuthentication", short="ra", spec=security.request_authentication),
    Kind(
        group=local_rate_limit.GROUP,
        name="LocalRateLimit",
        short="lrl",
        spec=_of(local_rate_limit.LocalRateLimitSpec),
        optional=False,
        columns=(AGE,),
    ),
    Kind(
        group=TELEMETRY,
        name="Telemetry",
        short="telemetry",
        spec=telemetry.telemetry,
        columns=(AGE,),
        stored="v1alpha1",
    ),
    Kind(
        group=_EXTENSIONS,
        name="TrafficExtension",
        spec=extensions.traffic_extension,
        optional=False,
        columns=(AGE,),
    ),
    Kind(group=_EXTENSIONS, name="WasmPlugin", spec=extensions.wasm_plugin, optional=False, columns=(AGE,)),
)
"""Istio's kinds, and our own, by group and name."""


def all_kinds() -> Mapping[str, Schema]:
    """File name -> CustomResourceDefinition, for every kind."""
    made = {}
    for kind in KINDS:
        info = registry.KINDS[kind.group, kind.name]
        made[f"{kind.group}_{info.plural}.yaml"] = _definition(kind, info)
    return made


def _definition(kind: Kind, info: registry.KindInfo) -> Schema:
    singular = kind.name.lower()
    names: dict[str, Any] = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": info.plural,
        "singular": singular,
        "categories": ["istio-io", f"{kind.group.partition('.')[0]}-istio-io"],
    }
    if kind.short:
        names["shortNames"] = [kind.short]
    schema, stored = _schema(kind), kind.stored or info.versions[0]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{info.plural}.{kind.group}",
            # Whoever uninstalls a chart does not mean all objects of all users.
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app": "istio-pilot", "istio": kind.group.partition(".")[0]},
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [_version(kind, version, schema, stored=version == stored) for version in info.versions],
        },
    }


def _version(kind: Kind, version: str, schema: Schema, *, stored: bool) -> Schema:
    made: Schema = {"name": version, "served": True, "storage": stored, "subresources": {"status": {}}}
    if kind.columns:
        made["additionalPrinterColumns"] = [
            {"name": each.name, "type": each.type, "jsonPath": each.path, "description": each.text}
            for each in kind.columns
        ]
    return {**made, "schema": {"openAPIV3Schema": schema}}


def _schema(kind: Kind) -> Schema:
    addresses = {"addresses": common.allocated_addresses()} if kind.name == "ServiceEntry" else {}
    spec = kind.spec()
    fields = {"spec": spec, "status": common.status(addresses)}
    made: Schema = {"description": spec["description"], "type": "object", "properties": fields}
    return made if kind.optional else {**made, "required": ["spec"]}

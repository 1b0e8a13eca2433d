"""EnvoyFilter, whose patches no schema knows, and ProxyConfig and WorkloadGroup without a model (rows K, R8, H10).

Source: istio.networking envoy_filter.proto, proxy_config.proto, workload_group.proto.
"""

from __future__ import annotations

from typing import Any, Final, get_args

from crds import envoy_filter as api
from crds.schema import common
from crds.schema.shape import Rule, Schema, array, choice, constrain, int32, mapping, string, thing, tree, uint32

_APPLY_TO: Final[tuple[str, ...]] = get_args(api.ApplyTo)
_OPERATIONS: Final[tuple[str, ...]] = get_args(api.Operation)
_NAME: Final = "Its name."
_PORT: Final = "Its port."


def _filter() -> Schema:
    inner = thing("A filter inside of it.", {"name": string(_NAME)})
    return thing("A network filter.", {"name": string(_NAME), "subFilter": inner})


def _listener() -> Schema:
    chain = thing(
        "Which of its filter chains.",
        {
            "name": string(_NAME),
            "sni": string("The server name that it is for."),
            "transportProtocol": string("raw_buffer or tls."),
            "transportSocket": string("The name of its transport socket."),
            "applicationProtocols": string("Application protocols that it is for, with commas between."),
            "destinationPort": uint32("The port that it is for."),
            "filter": _filter(),
        },
    )
    return thing(
        "A listener.",
        {
            "name": string(_NAME),
            "portName": string("Its port's name."),
            "portNumber": uint32(_PORT),
            "filterChain": chain,
            "listenerFilter": string("The name of a listener filter."),
        },
    )


def _route_configuration() -> Schema:
    actions = choice(("ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"), "What it does.")
    route = thing("A route.", {"name": string(_NAME), "action": actions})
    host = thing(
        "A virtual host.",
        {"name": string("Its name, HOST:PORT."), "domainName": string("One of its domains."), "route": route},
    )
    return thing(
        "A route configuration.",
        {
            "name": string(_NAME),
            "portName": string("The port's name at a gateway."),
            "portNumber": uint32("The port at a gateway, or of the service."),
            "gateway": string("The Gateway object, NAMESPACE/NAME."),
            "vhost": host,
        },
    )


def _cluster() -> Schema:
    return thing(
        "A cluster.",
        {
            "name": string(_NAME),
            "service": string("The service's host."),
            "subset": string("The service's subset."),
            "portNumber": uint32("The service's port."),
        },
    )


def _waypoint() -> Schema:
    return thing(
        "A part of a waypoint.",
        {
            "filter": _filter(),
            "portNumber": common.port(_PORT),
            "route": thing("A route.", {"name": string(_NAME)}),
        },
    )


def _patch_match() -> Schema:
    waypoint: Rule = (
        (
            'has(self.context) ? ((self.context == "WAYPOINT") ? has(self.waypoint) : !has(self.waypoint)) '
            ": !has(self.waypoint)"
        ),
        "waypoint belongs to context WAYPOINT, and that to it",
    )
    proxy = thing(
        "Which proxies.",
        {
            "proxyVersion": string("A regular expression for the version."),
            "metadata": mapping(string(), "What the proxy's metadata must hold."),
        },
    )
    contexts = ("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT")
    return thing(
        "What is patched; all fields that are there must hold.",
        {
            "context": choice(contexts, "Sidecars' inbound or outbound side, gateways, or all."),
            "proxy": proxy,
            "listener": _listener(),
            "routeConfiguration": _route_configuration(),
            "cluster": _cluster(),
            "waypoint": _waypoint(),
        },
        one_of=(("listener", "routeConfiguration", "cluster", "waypoint"),),
        rules=(waypoint,),
    )


def envoy_filter() -> Schema:
    """``spec`` of EnvoyFilter."""
    patch = thing(
        "How it is patched.",
        {
            "operation": choice(_OPERATIONS, "What is done with value."),
            "value": tree("Envoy configuration, in its JSON form."),
            "filterClass": choice(("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"), "Before which filters ADD puts it."),
        },
    )
    patches = thing(
        "One patch.",
        {
            "applyTo": choice(_APPLY_TO, "What sort of thing is patched."),
            "match": _patch_match(),
            "patch": patch,
        },
    )
    one_target: Rule = (
        "(has(self.workloadSelector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
        "only one of workloadSelector and targetRefs can be set",
    )
    return thing(
        "Patches of the Envoy configuration that the control plane makes.",
        {
            "configPatches": array(patches, "Patches, in this order."),
            "priority": int32("Order among objects: lower comes first."),
            "workloadSelector": common.workload_selector(),
            "targetRefs": common.targets(),
        },
        rules=(one_target,),
    )


def proxy_config() -> Schema:
    """``spec`` of ProxyConfig."""
    return thing(
        "Settings of proxies that take effect when their pods start.",
        {
            "selector": common.selector(),
            "concurrency": int32("Worker threads; 0: one for each CPU.", minimum=0, nullable=True),
            "environmentVariables": mapping(string(maxLength=2048), "Environment of the proxy."),
            "image": thing("Which image.", {"imageType": string("default, debug or distroless.")}),
        },
    )


def _probe() -> Schema:
    count: dict[str, Any] = {"minimum": 0}
    scheme: Rule = ('self in ["", "HTTP", "HTTPS"]', "must be HTTP or HTTPS")
    header = thing("One header.", {"name": string(_NAME, pattern="^[-_A-Za-z0-9]+$"), "value": string("Its value.")})
    get = thing(
        "An HTTP GET.",
        {
            "path": string("The path."),
            "port": common.port("The port."),
            "host": string("The host; absent: the workload's address."),
            "scheme": constrain(string("HTTP or HTTPS."), rules=(scheme,)),
            "httpHeaders": array(header, "Headers of the request."),
        },
        required=("port",),
    )
    socket = {"host": string("The host; absent: localhost."), "port": common.port("The port.")}
    command = {"command": array(string(minLength=1), "The program and its arguments; no shell.")}
    grpc = {"port": common.port("The port."), "service": string("The service that is asked about.")}
    return thing(
        "How it is found out whether a workload is well.",
        {
            "initialDelaySeconds": int32("Seconds before the first attempt.", **count),
            "timeoutSeconds": int32("Seconds that an attempt may take.", **count),
            "periodSeconds": int32("Seconds between attempts.", **count),
            "successThreshold": int32("Successes in a row that make it well.", **count),
            "failureThreshold": int32("Failures in a row that make it unwell.", **count),
            "httpGet": get,
            "tcpSocket": thing("A connection.", socket, required=("port",)),
            "exec": thing("A command; 0 is well.", command, required=("command",)),
            "grpc": thing("gRPC health checking.", grpc),
        },
        one_of=(("httpGet", "tcpSocket", "exec", "grpc"),),
    )


def workload_group(template: Schema) -> Schema:
    """``spec`` of WorkloadGroup. ``template`` is the schema of a WorkloadEntry without the need of an address."""
    many: dict[str, Any] = {"maxProperties": common.MOST_WORKLOAD_LABELS}
    metadata = thing(
        "What the entries get.",
        {"labels": mapping(string(), "Labels.", **many), "annotations": mapping(string(), "Annotations.", **many)},
    )
    return thing(
        "Workloads of one sort outside of the cluster, which register themselves.",
        {"metadata": metadata, "template": template, "probe": _probe()},
        required=("template",),
    )

"""What fields of a generated document say together, where the models alone would mostly give what the checks refuse."""

from __future__ import annotations

from collections.abc import Mapping

from crds import destination_rule, envoy_filter, gateway, service_entry, sidecar, virtual_service
from crds.meta import Model
from tests.generated.maker import ODD_TEXTS, PATHS, PORTS, REGEXES, TEXTS, Document, Maker, Rule


def _string_match(maker: Maker, _: Document) -> Document:
    kind = maker.random.choice(("exact", "prefix", "regex"))
    texts = REGEXES if kind == "regex" else (*PATHS, "v", "GET", "http")
    return {kind: maker.random.choice(texts if maker.chance(0.97) else ODD_TEXTS)}


def _route(maker: Maker, made: Document) -> Document:
    answer = maker.random.choice(("route",) * 6 + ("redirect", "directResponse"))
    made = {
        name: value for name, value in made.items() if name not in ("route", "redirect", "directResponse", "delegate")
    }
    if answer != "route":
        kinds = {"redirect": virtual_service.HTTPRedirect, "directResponse": virtual_service.HTTPDirectResponse}
        for name in ("rewrite", "fault", "mirror", "mirrors", "timeout", "retries"):
            made.pop(name, None)
        return {**made, answer: maker.model(kinds[answer])}
    made = maker.one(made, "mirror", "mirrors")
    return {
        **made,
        "route": [maker.model(virtual_service.HTTPRouteDestination) for _ in range(maker.random.choice((1, 2)))],
    }


def _redirect(maker: Maker, made: Document) -> Document:
    made = maker.one(maker.one(made, "port", "derivePort"), "uri", "prefixRewrite")
    return made or {"uri": "/q"}


def _rewrite(maker: Maker, made: Document) -> Document:
    made = maker.one(made, "uri", "uriRegexRewrite")
    return made or {"uri": "/q"}


def _hash(maker: Maker, made: Document) -> Document:
    keys = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
    made = maker.one(maker.one(made, "ringHash", "maglev", "minimumRingSize"), *keys)
    return made if any(key in made for key in keys) else {**made, "useSourceIp": True}


def _balancer(maker: Maker, made: Document) -> Document:
    made = maker.one(maker.one(made, "simple", "consistentHash"), "localityLbSetting", "zoneAwareLbSetting")
    return maker.one(made, "warmup", "warmupDurationSecs") or {"simple": "RANDOM"}


def _client_tls(maker: Maker, made: Document) -> Document:
    mode = maker.random.choice(("DISABLE", "SIMPLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"))
    made = {name: made[name] for name in made if name in ("sni", "subjectAltNames")} | {"mode": mode}
    files = {"clientCertificate": "/c.pem", "privateKey": "/k.pem", "caCertificates": "/ca.pem"}
    if mode == "SIMPLE":
        made |= maker.random.choice(({}, {"credentialName": "secret"}, {"caCertificates": "/ca.pem"}))
    if mode == "MUTUAL":
        made |= maker.random.choice((files, {"credentialName": "secret"}))
    return made


def _server_tls(maker: Maker, made: Document) -> Document:
    modes = ("SIMPLE", "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL")
    mode = maker.random.choice(modes)
    kept = ("minProtocolVersion", "cipherSuites") if mode in modes[:4] else ()
    found = {name: made[name] for name in made if name in kept} | {"mode": mode}
    files = {"serverCertificate": "/c.pem", "privateKey": "/k.pem"}
    if mode == "SIMPLE":
        found |= maker.random.choice((files, {"credentialName": "secret"}, {"tlsCertificates": [files]}))
    if mode in ("MUTUAL", "OPTIONAL_MUTUAL"):
        found |= maker.random.choice((files | {"caCertificates": "/ca.pem"}, {"credentialName": "secret"}))
        found |= {name: made[name] for name in made if name.startswith(("verify", "subject"))}
    return found


def _server(maker: Maker, made: Document) -> Document:
    number, protocol = maker.random.choice(
        ((80, "HTTP"), (8080, "HTTP2"), (443, "HTTPS"), (8443, "TLS"), (9000, "TCP"), (443, "TLS"), (80, "GRPC"))
    )
    made["port"] = {"number": number, "name": f"p{maker.random.randrange(1000)}", "protocol": protocol}
    tls = made.pop("tls", None) or maker.model(gateway.ServerTLSSettings)
    if protocol in ("HTTPS", "TLS"):
        made["tls"] = tls
    elif protocol == "HTTP" and maker.chance(0.2):
        made["tls"] = {"httpsRedirect": True}
    prefixes = ("", "", "", "./", "*/", "default/")
    made["hosts"] = [maker.random.choice(prefixes) + host for host in made.get("hosts", []) or ["*"]]
    made.pop("name", None)
    return made


def _entry(maker: Maker, made: Document) -> Document:
    resolution = maker.random.choice(("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"))
    hosts = (
        ("*.w.example", "*.z.example") if resolution == "DYNAMIC_DNS" else ("e.example", "dns.example", "a.w.example")
    )
    protocols = ("HTTP", "TLS", "HTTPS", "GRPC") + (() if resolution == "DYNAMIC_DNS" else ("TCP", "HTTP2"))
    ports = [
        {"number": number, "name": name, "protocol": maker.random.choice(protocols)}
        for number, name in ((80, "http"), (443, "tls"), (9000, "tcp"))
        if maker.chance(0.6)
    ]
    made |= {
        "hosts": [maker.random.choice(hosts)],
        "ports": ports or [{"number": 80, "name": "http", "protocol": "HTTP"}],
    }
    made |= {"resolution": resolution}
    made.pop("workloadSelector", None)
    endpoints = made.pop("endpoints", [])
    if resolution in ("STATIC", "DNS") or (resolution == "DNS_ROUND_ROBIN" and len(endpoints) < 2):
        for each in endpoints:
            each["ports"] = {ports[0]["name"]: maker.random.choice(PORTS)} if ports and maker.chance(0.5) else {}
        made["endpoints"] = endpoints
    if resolution == "DYNAMIC_DNS":
        made.pop("addresses", None)
    if resolution == "STATIC" and not endpoints:
        made["workloadSelector"] = {"labels": {"app": "web"}}
    return made


def _workload(maker: Maker, made: Document) -> Document:
    return {**made, "address": maker.random.choice(("10.8.0.1", "10.8.0.2", "2001:db8::5"))}


def _sidecar(_: Maker, made: Document) -> Document:
    return made if made.keys() - {"workloadSelector"} else {**made, "egress": [{"hosts": ["*/*"]}]}


def _ingress(maker: Maker, made: Document) -> Document:
    port = {
        "number": maker.random.choice(PORTS),
        "name": "p",
        "protocol": maker.random.choice(("HTTP", "TCP", "GRPC")),
    }
    made.pop("tls", None)
    return {**made, "port": port, "defaultEndpoint": maker.random.choice(TEXTS["default_endpoint"])}


def _egress(maker: Maker, made: Document) -> Document:
    made["hosts"] = [
        maker.random.choice(("./", "*/", "other/")) + maker.random.choice(("*", "web.default.svc.cluster.local"))
    ]
    if "port" in made:
        made["port"] = {
            "number": maker.random.choice(PORTS),
            "protocol": maker.random.choice(("HTTP", "TCP")),
            "name": "p",
        }
    else:
        made.pop("bind", None)
        made.pop("captureMode", None)
    return made


_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LUA = f"{_EXTENSIONS}filters.http.lua.v3.Lua"
_MUTATION = f"{_EXTENSIONS}filters.http.header_mutation.v3.HeaderMutation"
_CODEC = f"{_EXTENSIONS}filters.http.upstream_codec.v3.UpstreamCodec"
_CALLS = """
function envoy_on_request(handle)
  handle:httpCall("outbound|80||web.default.svc.cluster.local", {[":method"] = "GET", [":path"] = "/"}, "", 10, true)
end
"""
_MARKS = {"request_mutations": [{"append": {"header": {"key": "x-mark", "value": "1"}}}]}


def _asking(name: str, kind: str) -> Document:
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "1s"}
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [kind]}}


def _adding(name: str, kind: str, config: Document) -> Document:
    value = {"name": name, "typed_config": {"@type": kind, **config}}
    return {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "ADD", "value": value}}


_OPTIONS = {
    "@type": f"type.googleapis.com/{_UPSTREAM}",
    "explicit_http_config": {"http_protocol_options": {}},
    "http_filters": [_asking("upstream", _MUTATION), {"name": "codec", "typed_config": {"@type": _CODEC}}],
}
_IN_MANAGER = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}
_DISCOVERED: tuple[Document, ...] = (
    _adding("calls", _LUA, {"default_source_code": {"inline_string": _CALLS}}),
    _adding("upstream", _MUTATION, {"mutations": _MARKS}),
    {
        "applyTo": "HTTP_FILTER",
        "match": {"listener": _IN_MANAGER},
        "patch": {"operation": "INSERT_BEFORE", "value": _asking("calls", _LUA)},
    },
    {
        "applyTo": "CLUSTER",
        "match": {},
        "patch": {"operation": "MERGE", "value": {"typed_extension_protocol_options": {_UPSTREAM: _OPTIONS}}},
    },
)
"""Filters whose configuration comes by discovery, and the configurations."""
_PATCHES: tuple[Document, ...] = (
    {"applyTo": "CLUSTER", "match": {}, "patch": {"operation": "MERGE", "value": {"connect_timeout": "3s"}}},
    {"applyTo": "CLUSTER", "match": {"cluster": {"portNumber": 80}}, "patch": {"operation": "REMOVE"}},
    {
        "applyTo": "VIRTUAL_HOST",
        "match": {},
        "patch": {"operation": "MERGE", "value": {"include_request_attempt_count": True}},
    },
    {"applyTo": "HTTP_ROUTE", "match": {}, "patch": {"operation": "REMOVE"}},
    {"applyTo": "HTTP_ROUTE", "match": {}, "patch": {"operation": "MERGE", "value": {"name": "patched"}}},
    {"applyTo": "LISTENER", "match": {"listener": {"portNumber": 9000}}, "patch": {"operation": "REMOVE"}},
    {
        "applyTo": "LISTENER",
        "match": {},
        "patch": {"operation": "MERGE", "value": {"per_connection_buffer_limit_bytes": 4096}},
    },
)


def _filter(maker: Maker, made: Document) -> Document:
    if maker.chance(0.4):
        several = maker.random.sample(_DISCOVERED, maker.random.randint(2, len(_DISCOVERED)))
        return {name: said for name, said in made.items() if name != "targetRefs"} | {"configPatches": several}
    patch = maker.random.choice(_PATCHES)
    if maker.chance(0.5):
        match = maker.model(envoy_filter.ObjectMatch)
        kept = {"CLUSTER": "cluster", "LISTENER": "listener", "HTTP_FILTER": "listener"}.get(
            patch["applyTo"], "routeConfiguration"
        )
        match = {name: match[name] for name in match if name in ("context", "proxy", kept)}
        patch = {**patch, "match": match}
    return {name: said for name, said in made.items() if name != "targetRefs"} | {"configPatches": [patch]}


RULES: Mapping[type[Model], Rule] = {
    virtual_service.StringMatch: _string_match,
    virtual_service.HTTPRoute: _route,
    virtual_service.HTTPRedirect: _redirect,
    virtual_service.HTTPRewrite: _rewrite,
    virtual_service.HTTPBody: lambda maker, made: maker.one(made, "string", "bytes") or {"string": "x"},
    virtual_service.Abort: lambda maker, made: maker.one(made, "httpStatus", "grpcStatus", "http2Error"),
    virtual_service.Delay: lambda maker, made: maker.one(made, "fixedDelay", "exponentialDelay"),
    destination_rule.ConsistentHashLB: _hash,
    destination_rule.LoadBalancerSettings: _balancer,
    destination_rule.LocalityLoadBalancerSetting: lambda m, made: m.one(
        made, "distribute", "failover", "failoverPriority"
    ),
    destination_rule.ClientTLSSettings: _client_tls,
    gateway.ServerTLSSettings: _server_tls,
    gateway.Server: _server,
    service_entry.ServiceEntrySpec: _entry,
    service_entry.WorkloadEntrySpec: _workload,
    sidecar.SidecarSpec: _sidecar,
    sidecar.IstioIngressListener: _ingress,
    sidecar.IstioEgressListener: _egress,
    envoy_filter.EnvoyFilterSpec: _filter,
}

NEEDED: Mapping[type[Model], tuple[str, ...]] = {
    virtual_service.VirtualServiceSpec: ("hosts", "http"),
    virtual_service.HTTPRouteDestination: ("destination", "weight"),
    virtual_service.RouteDestination: ("destination", "weight"),
    virtual_service.Destination: ("host",),
    virtual_service.HTTPMirrorPolicy: ("destination",),
    virtual_service.TCPRoute: ("route",),
    virtual_service.TLSRoute: ("match", "route"),
    virtual_service.TLSMatchAttributes: ("sni_hosts",),
    virtual_service.PortSelector: ("number",),
    virtual_service.RegexRewrite: ("match", "rewrite"),
    virtual_service.HTTPDirectResponse: ("status",),
    virtual_service.HTTPRetry: ("attempts",),
    virtual_service.Abort: ("http_status",),
    virtual_service.Delay: ("fixed_delay",),
    destination_rule.DestinationRuleSpec: ("host", "traffic_policy", "subsets"),
    destination_rule.Subset: ("name", "labels"),
    destination_rule.PortTrafficPolicy: ("port",),
    destination_rule.HTTPCookie: ("name", "ttl"),
    destination_rule.MagLev: ("table_size",),
    destination_rule.ConnectionPoolSettings: ("tcp", "http"),
    destination_rule.TunnelSettings: ("target_host", "target_port"),
    gateway.GatewaySpec: ("servers", "selector"),
    sidecar.IstioIngressListener: ("port",),
}

"""WasmPlugin and TrafficExtension, whose objects have no effect yet. Source: istio.extensions (wasm, extension)."""

from __future__ import annotations

from typing import Final

from crds.schema import common
from crds.schema.shape import Rule, Schema, array, choice, constrain, int32, string, thing, tree

_SCHEMES: Final = '["", "http", "https", "oci", "file"]'
_URL: Final[Rule] = (
    (
        f"isURL(self) ? (url(self).getScheme() in {_SCHEMES}) : "
        f'(isURL("http://" + self) && url("http://" + self).getScheme() in {_SCHEMES})'
    ),
    "must be a URL of scheme http, https, oci or file",
)
_PHASE: Final = "Where in the chain of filters it stands: before authentication, authorization or statistics."


def _match() -> Schema:
    number = {"type": "integer", "minimum": 1, "maximum": 65535, "description": "The port."}
    listed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]}
    ports = array(thing("One port.", {"number": number}, required=("number",)), "Ports; absent: all.", **listed)
    mode = choice(("UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"), "Whose side of a call.")
    return array(thing("Some traffic.", {"mode": mode, "ports": ports}), "Traffic of which one part must match.")


def _vm() -> Schema:
    hosts_own: Rule = (
        '(has(self.valueFrom) ? self.valueFrom : "") != "HOST" || !has(self.value)',
        "value can only be set where valueFrom is INLINE",
    )
    variable = thing(
        "One variable.",
        {
            "name": string("Its name.", minLength=1, maxLength=256),
            "value": string("Its value.", maxLength=2048),
            "valueFrom": choice(("INLINE", "HOST"), "From here, or from the proxy's environment."),
        },
        required=("name",),
        rules=(hosts_own,),
    )
    listed = {"maxItems": 256, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    return thing("The machine that runs it.", {"env": array(variable, "Its environment.", **listed)})


def _module() -> dict[str, Schema]:
    return {
        "url": constrain(string("Where the module is; without a scheme: an OCI image.", minLength=1), rules=(_URL,)),
        "sha256": string("Its checksum.", pattern="(^$|^[a-f0-9]{64}$)"),
        "imagePullPolicy": choice(("UNSPECIFIED_POLICY", "IfNotPresent", "Always"), "When it is fetched again."),
        "imagePullSecret": string("A Secret with credentials of the registry.", minLength=1, maxLength=253),
        "verificationKey": string("A public key that must have signed it."),
        "pluginConfig": tree("What the module gets as its configuration."),
        "pluginName": string("The root context of the module.", minLength=1, maxLength=256),
        "failStrategy": choice(
            ("FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"), "What happens to requests where the module cannot run."
        ),
        "vmConfig": _vm(),
        "type": choice(("UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"), "Whether it filters HTTP or connections."),
    }


def _place() -> dict[str, Schema]:
    return {
        "match": _match(),
        "priority": int32("Among those of one phase: higher comes first.", nullable=True),
        "selector": common.selector(),
        "targetRefs": common.targets(),
    }


def wasm_plugin() -> Schema:
    """``spec`` of WasmPlugin."""
    fields = {
        **_module(),
        **_place(),
        "phase": choice(("UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"), _PHASE),
        "targetRef": common.target(),
    }
    return thing("A WebAssembly module in the proxies' chain.", fields, required=("url",), rules=(common.ONE_TARGET,))


def traffic_extension() -> Schema:
    """``spec`` of TrafficExtension."""
    code = string("The script.", minLength=1, maxLength=65536)
    one_target: Rule = (
        "(has(self.selector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
        "only one of selector and targetRefs can be set",
    )
    one_kind: Rule = ("has(self.wasm) != has(self.lua)", "exactly one of wasm and lua must be set")
    return thing(
        "A WebAssembly module or a Lua script in the proxies' chain.",
        {
            **_place(),
            "phase": choice(("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"), _PHASE),
            "wasm": thing("A WebAssembly module.", _module(), required=("url",)),
            "lua": thing("A Lua script.", {"inlineCode": code}, required=("inlineCode",)),
        },
        one_of=(("wasm", "lua"),),
        rules=(one_target, one_kind),
    )

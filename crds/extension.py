"""WasmPlugin and TrafficExtension: code of users in the proxies' chain. They are judged, and have no effect yet.

Source: istio.extensions wasm.proto and extension.proto, v1alpha1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from crds.meta import Ignored, Int32, Model, Object, Port, WorkloadSelector
from crds.target_reference import PolicyTargetReference


class EnvVar(Model):
    """A variable of the machine that runs a module: from here, or from the proxy's environment."""

    name: str = ""
    value_from: Literal["INLINE", "HOST"] = "INLINE"
    value: str = ""


class VmConfig(Model):
    """The machine that runs a module."""

    env: tuple[EnvVar, ...] = ()


class Module(Model):
    """A WebAssembly module: where it is, and what it is given."""

    url: str = ""
    sha256: str = ""
    image_pull_policy: Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"] = "UNSPECIFIED_POLICY"
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: Mapping[str, Any] | None = None
    plugin_name: str = ""
    fail_strategy: Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"] = "FAIL_CLOSE"
    vm_config: VmConfig | None = None
    type: Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"] = "UNSPECIFIED_PLUGIN_TYPE"


class PortSelector(Model):
    """One port."""

    number: Port = 0


class TrafficSelector(Model):
    """Some traffic: whose side of a call, and the ports; none is all."""

    mode: Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"] = "UNDEFINED"
    ports: tuple[PortSelector, ...] = ()


class WasmPluginSpec(Module):
    """A module, whom it is for, and where in the chain it stands."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    match: tuple[TrafficSelector, ...] = ()
    phase: Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED_PHASE"
    priority: Int32 | None = None


class WasmPlugin(Object):
    """extensions.istio.io WasmPlugin."""

    spec: WasmPluginSpec = WasmPluginSpec()
    status: Ignored = None


class Lua(Model):
    """A script."""

    inline_code: str = ""


class TrafficExtensionSpec(Model):
    """A module or a script, whom it is for, and where in the chain it stands."""

    selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    match: tuple[TrafficSelector, ...] = ()
    phase: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"
    priority: Int32 | None = None
    wasm: Module | None = None
    lua: Lua | None = None


class TrafficExtension(Object):
    """extensions.istio.io TrafficExtension."""

    spec: TrafficExtensionSpec = TrafficExtensionSpec()
    status: Ignored = None

"""WasmPlugin and TrafficExtension: what Istio's webhook and definitions refuse (features row K).

Source: istio.extensions wasm.proto and extension.proto, and the rules of their definitions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from crds.checks import target_reference
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.extension import Module, TrafficExtension, TrafficSelector, VmConfig, WasmPlugin

_SCHEMES: Final = frozenset({"", "http", "https", "file", "oci"})
_CHECKSUM: Final = re.compile(r"[a-f0-9]{64}\Z")
_LONGEST_NAME: Final = 256
_LONGEST_SECRET: Final = 253
_LONGEST_VALUE: Final = 2048
_MOST_VARIABLES: Final = 256
_LONGEST_CODE: Final = 65536


def wasm_plugin(item: WasmPlugin, found: Findings) -> None:
    """Everything that one WasmPlugin can be wrong about, and that it has no effect."""
    spec = item.spec
    target_reference.check(found, spec.selector, spec.target_ref, spec.target_refs)
    _module(found, "spec", spec)
    _match(found, spec.match)
    _in_vain(found, item.kind)


def traffic_extension(item: TrafficExtension, found: Findings) -> None:
    """Everything that one TrafficExtension can be wrong about, and that it has no effect."""
    spec = item.spec
    target_reference.check(found, spec.selector, None, spec.target_refs)
    if (spec.wasm is None) == (spec.lua is None):
        found.error("spec", "exactly one of wasm and lua must be set")
    if spec.wasm is not None:
        _module(found, "spec.wasm", spec.wasm)
    if spec.lua is not None and not spec.lua.inline_code:
        found.missing("spec.lua.inlineCode")
    elif spec.lua is not None:
        _at_most(found, "spec.lua.inlineCode", spec.lua.inline_code, _LONGEST_CODE)
    _match(found, spec.match)
    _in_vain(found, item.kind)


def _in_vain(found: Findings, kind: str) -> None:
    found.warning("", f"{kind} has no effect yet: an EnvoyFilter can bring a filter", Code.NOT_SUPPORTED)


def _module(found: Findings, field: str, said: Module) -> None:
    if not said.url:
        found.missing(f"{field}.url")
    else:
        found.check(f"{field}.url", _url(said.url))
    if said.sha256 and not _CHECKSUM.match(said.sha256):
        found.error(f"{field}.sha256", "must be 64 characters of 0-9 and a-f")
    given = said.model_fields_set
    texts = (
        ("pluginName", "plugin_name", said.plugin_name, _LONGEST_NAME),
        ("imagePullSecret", "image_pull_secret", said.image_pull_secret, _LONGEST_SECRET),
    )
    for name, attribute, text, most in texts:
        if attribute in given and not text:
            found.refuse(f"{field}.{name}", "must not be empty where it is given")
        _at_most(found, f"{field}.{name}", text, most)
    if said.vm_config is not None:
        _variables(found, f"{field}.vmConfig.env", said.vm_config)


def _url(text: str) -> str | None:
    """A URL, or the name of an image, which has no scheme."""
    try:
        parts = urlsplit(text if "://" in text else f"oci://{text}")
        known = parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError as problem:
        return f"{text!r} is no URL: {problem}"
    whole = bool(parts.netloc or parts.scheme == "file") and not re.search(r"[\s$%](?![0-9A-Fa-f]{2})", parts.netloc)
    return None if known and whole else "must be a URL of scheme http, https, file or oci, or the name of an image"


def _variables(found: Findings, field: str, said: VmConfig) -> None:
    if len(said.env) > _MOST_VARIABLES:
        found.error(field, f"has more than {_MOST_VARIABLES} items")
    seen: set[str] = set()
    for index, one in enumerate(said.env):
        place = f"{field}[{index}]"
        if not one.name:
            found.missing(f"{place}.name")
        if one.name in seen:
            found.error(f"{place}.name", f"{one.name!r} is there twice")
        seen.add(one.name)
        if one.value_from == "HOST" and "value" in one.model_fields_set:
            found.error(f"{place}.value", "comes from the proxy's environment (valueFrom HOST)")
        _at_most(found, f"{place}.name", one.name, _LONGEST_NAME)
        _at_most(found, f"{place}.value", one.value, _LONGEST_VALUE)


def _match(found: Findings, said: Sequence[TrafficSelector]) -> None:
    for index, one in enumerate(said):
        numbers = [port.number for port in one.ports]
        for at, number in enumerate(numbers):
            place = f"spec.match[{index}].ports[{at}].number"
            if not number:
                found.missing(place)
            elif number in numbers[:at]:
                found.error(place, f"{number} is there twice")


def _at_most(found: Findings, field: str, text: str, most: int) -> None:
    if len(text) > most:
        found.error(field, f"must be at most {most} characters long")

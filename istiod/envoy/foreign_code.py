"""What an EnvoyFilter brings that must not be loaded where istiod runs: code, and files that only proxies have.

Envoy runs the body of a Lua script when it loads it, with all of Lua's libraries: there, one could read the CA's key.
So scripts are judged by their syntax, and what else carries code, or names files or variables of its machine, is not
put before Envoy here at all: neither would they be the proxy's, nor may Envoy's words quote what is in istiod's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from crds.key import ConfigKey
from istiod.envoy import wellknown
from istiod.mesh.envoy_filters import Patch
from wire import names

_CODE: Final = re.compile(rb"\.(?:lua|wasm|golang|dynamic_modules?)\.v", re.IGNORECASE)
"""In the type of every extension that runs code; a type's name stands in the bytes as it is, however deep."""
_SCRIPTED: Final = ("HTTP_FILTER", "EXTENSION_CONFIG")
"""What a script can be taken out of."""
_LUA: Final = names.TYPE_PREFIX + lua_pb2.Lua.DESCRIPTOR.full_name
_MANAGER: Final = names.TYPE_PREFIX + http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR.full_name
NOT_RUN: Final = "do return end "
"""Before a script, on its first line: the whole is compiled, and nothing of it runs."""
_FILES: Final = re.compile(
    r"(?:^|_)(?:file|filename|directory|dir|folder|environment_variable|proto_descriptor|path_prefix)s?$|path_config_source"
)
_PATHS: Final = re.compile(r"(?:^|_)paths?$")
_OF_REQUESTS: Final = ("match", "http_health_check", "cookie", "pipe", "redirect")
"""Fields below which a ``path`` is none of a file that is read."""
_LOG: Final = "FileAccessLog"
_STREAMS: Final = ("/dev/stdout", "/dev/stderr", "/dev/null")
"""What a log may name: any other file would be made here."""
_READS: Final = ("%FILE_CONTENT", "%ENVIRONMENT")


def foreign(patches: Iterable[Patch]) -> dict[ConfigKey, str]:
    """The objects of which a patch names a file or a variable, each with the first field that does."""
    found: dict[ConfigKey, str] = {}
    for patch in patches:
        if patch.key not in found and (name := next(_foreign(json.loads(patch.value or "null"), ""), "")):
            found[patch.key] = name
    return found


def unloadable(patches: Iterable[Patch]) -> dict[ConfigKey, str]:
    """The objects of which a patch may not be loaded here, or would have a whole resource left out, each with why."""
    several = tuple(patches)
    coded = {patch.key: "code" for patch in several if _CODE.search(_without_script(patch).encode())}
    return coded | foreign(several)


def _without_script(patch: Patch) -> str:
    """A patch's value without the type of a script that can be disarmed."""
    return patch.value.replace(_LUA, "", 1) if patch.apply_to in _SCRIPTED else patch.value


def _foreign(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, str):
        yield from (each for each in _READS if each in value)
    elif isinstance(value, list):
        for each in value:
            yield from _foreign(each, field)
    elif isinstance(value, dict):
        logs = str(value.get("@type", value.get("type_url", ""))).endswith(_LOG)
        for name, each in value.items():
            plain = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", str(name)).lower()
            path = _PATHS.search(plain) and isinstance(each, str | list) and field not in _OF_REQUESTS
            path = path and not (logs and each in _STREAMS)
            if not isinstance(each, bool) and (path or _FILES.search(plain)):
                yield str(name)
            yield from _foreign(each, plain)


def disarmed(body: bytes, type_url: str) -> bytes | None:
    """A resource without any code that runs when it is loaded; None where there is some that cannot be taken out."""
    found = len(_CODE.findall(body))
    if not found:
        return body
    if type_url == names.EXTENSION:
        return _disarmed_extension(body, found)
    if type_url != names.LISTENER:
        return None
    message = listener_pb2.Listener.FromString(body)
    scripts = sum(map(_disarm_chain, (*message.filter_chains, message.default_filter_chain)))
    disarmed_body = wellknown.encode(message)
    return disarmed_body if scripts == len(_CODE.findall(disarmed_body)) else None


def _disarmed_extension(body: bytes, found: int) -> bytes | None:
    message = extension_pb2.TypedExtensionConfig.FromString(body)
    if found != 1 or message.typed_config.type_url != _LUA:
        return None
    message.typed_config.CopyFrom(wellknown.packed(_syntax_only(message.typed_config.value)))
    return wellknown.encode(message)


def _disarm_chain(chain: Any) -> int:
    """How many scripts were found in the connection managers of a chain, those included that are only named."""
    found = 0
    for one in chain.filters:
        if one.typed_config.type_url == _MANAGER:
            manager = http_connection_manager_pb2.HttpConnectionManager.FromString(one.typed_config.value)
            several = [each for each in manager.http_filters if each.typed_config.type_url == _LUA]
            for each in several:
                each.typed_config.CopyFrom(wellknown.packed(_syntax_only(each.typed_config.value)))
            found += len(several) + sum(map(_only_named, manager.http_filters))
            if several:
                one.typed_config.CopyFrom(wellknown.packed(manager))
    return found


def _only_named(one: http_connection_manager_pb2.HttpFilter) -> int:
    """Types of code that a filter may be given later, by discovery: they are no code."""
    return sum(len(_CODE.findall(each.encode())) for each in one.config_discovery.type_urls)


def _syntax_only(value: bytes) -> lua_pb2.Lua:
    lua = lua_pb2.Lua.FromString(value)
    if lua.inline_code:
        lua.inline_code = NOT_RUN + lua.inline_code
    sources = [*lua.source_codes.values()]
    if lua.HasField("default_source_code"):
        sources.append(lua.default_source_code)
    for source in sources:
        if source.WhichOneof("specifier") == "inline_bytes":
            source.inline_bytes = NOT_RUN.encode() + source.inline_bytes
        elif source.WhichOneof("specifier") == "inline_string":
            source.inline_string = NOT_RUN + source.inline_string
    return lua

"""EnvoyFilters as admission puts them before Envoy: whoever may write one decides every byte of its values."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from crds.envoy_filter import EnvoyFilter
from crds.parse import parse
from istiod.config.resource import Resource
from istiod.envoy import extensions, foreign_code, trial
from istiod.gate import candidates, stage
from istiod.mesh.envoy_filters import EnvoyFilterIndex
from tests.fuzz.target import Target, edited
from tests.gate.filters import BAD, EXTENSIONS, GOOD, LUA, document, http_filter, patch

SCRIPT = "function envoy_on_request(h) end"
CLUSTER = {"name": "added", "type": "STATIC", "connect_timeout": "1s"}
LOG = {"@type": EXTENSIONS + "access_loggers.file.v3.FileAccessLog", "path": "/dev/stdout"}
ASKS = {"config_source": {"ads": {}}, "type_urls": [LUA], "default_config": LOG}
UPSTREAM = {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "http_filters": [{"name": "own", "config_discovery": ASKS}],
}
SOURCES = {"a": {"inline_string": SCRIPT}, "b": {"inline_bytes": "ZnVuY3Rpb24gYSgpIGVuZA=="}}
MANY = (
    (http_filter(GOOD), http_filter(BAD, "SIDECAR_INBOUND", "INSERT_BEFORE")),
    (http_filter({"@type": LUA, "inline_code": SCRIPT}), http_filter({"@type": LUA, "source_codes": SOURCES})),
    (http_filter({"@type": LUA, "default_source_code": {"inline_string": SCRIPT}}),),
    (patch("CLUSTER", CLUSTER, "ADD"), patch("CLUSTER", {"per_connection_buffer_limit_bytes": 5})),
    (patch("LISTENER", {"access_log": [{"name": "log", "typed_config": LOG}]}), patch("CLUSTER", None, "REMOVE")),
    (patch("VIRTUAL_HOST", {"request_headers_to_add": [{"header": {"key": "x", "value": "1"}}]}),),
    (patch("EXTENSION_CONFIG", {"name": "own", "typed_config": {"@type": LUA, "inline_code": SCRIPT}}, "ADD"),),
    (patch("NETWORK_FILTER", {"name": "own", "config_discovery": ASKS}, "INSERT_FIRST"),),
    (patch("HTTP_ROUTE", {"typed_per_filter_config": {"a": {"@type": LUA + "PerRoute", "disabled": True}}}),),
    (patch("CLUSTER", {"name": "added", "typed_extension_protocol_options": {"a": UPSTREAM}}, "ADD"),),
)
READ = ("filename", "environmentVariable", "pathConfigSource", "watchedDirectory")
"""Fields by which Envoy reads something of its machine."""


def tried(raw: bytes) -> None:
    """One with odd parts that the checks take: what Envoy is shown of it runs no script and reads no file."""
    patches = edited([list(MANY[raw[0] % len(MANY)])] if raw else [], raw[1:])
    if not patches or not isinstance(patches[0], list):
        return
    try:
        item = parse(json.loads(json.dumps(document(*patches[0])))).object
    except ValueError:  # no JSON: an API server would not have it either
        return
    if isinstance(item, EnvoyFilter):
        shown(item)


def shown(item: EnvoyFilter) -> None:
    list(extensions.findings(EnvoyFilterIndex().adding(item)))
    for one in candidates.trials(*stage.meshed(item), item):
        foreign = foreign_code.unloadable(one.whole.patches)
        resources = [each.after for each in trial.changes(one, one.without, one.whole)]
        bodies: list[tuple[Resource, bytes]] = []
        for each in resources:
            body = foreign_code.disarmed(trial.body(each), each.type_url)
            bodies += [] if body is None else [(each, body)]
        made = trial.bootstrap(bodies, trial.needed(one, resources))
        trial.guilty(one.alone.patches, 'stat_prefix: "limits"')
        found = json_format.MessageToDict(bootstrap_pb2.Bootstrap.FromString(made))
        assert not [each for each in _within(found) if _runs(each)]
        if not foreign:
            assert not [each for each in _within(found) if not each.keys().isdisjoint(READ)]


def _runs(part: dict[str, Any]) -> bool:
    """Whether it is a script with something before its end."""
    if not str(part.get("@type")).endswith(".Lua"):
        return False
    code = part.get("inlineCode", foreign_code.NOT_RUN)
    sources = [part.get("defaultSourceCode", {}), *part.get("sourceCodes", {}).values()]
    texts = [each["inlineString"] for each in sources if "inlineString" in each]
    texts += [
        base64.b64decode(each["inlineBytes"]).decode(errors="replace") for each in sources if "inlineBytes" in each
    ]
    return any(not each.startswith(foreign_code.NOT_RUN) for each in (code, *texts))


def _within(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(part, dict):
        yield part
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _within(each)


TARGETS = (Target(name="trial", call=tried, seeds=(b"", *(bytes((number,)) for number in range(len(MANY))))),)

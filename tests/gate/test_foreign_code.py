"""What is not loaded beside istiod: code that runs when it is read, and files and variables of another machine."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.listener.v3 import listener_pb2

from istiod.envoy import foreign_code, trial
from istiod.envoy.trial import Change
from istiod.gate import candidates, stage
from tests.gate.filters import EXTENSIONS, GOOD, LUA, http_filter, item, patch
from wire import names

SCRIPT = "function envoy_on_request(h) end"


def changed(*patches: Any) -> list[Change]:
    """Everything that patches change in a made up mesh."""
    given = item(*patches)
    found = candidates.trials(*stage.meshed(given), given)
    return [each for one in found for each in trial.changes(one, one.without, one.whole)]


def named(value: Any) -> str:
    (one, *_) = candidates.trials(*stage.meshed(given := item(http_filter(value))), given)
    found = foreign_code.foreign(one.whole.patches)
    return found.get(given.key, "")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"@type": LUA, "default_source_code": {"filename": "/etc/cacerts/ca-key.pem"}}, "filename"),
        ({"@type": LUA, "defaultSourceCode": {"environmentVariable": "TOKEN"}}, "environmentVariable"),
        ({"@type": GOOD["@type"], "x": [{"pathConfigSource": {"path": "/a"}}]}, "pathConfigSource"),
        ({"@type": GOOD["@type"], "config_source": {"path": "/a"}}, "path"),
        ({"@type": GOOD["@type"], "cache_path": "/a"}, "cache_path"),
        ({"@type": GOOD["@type"], "text": "%ENVIRONMENT(TOKEN)%"}, "%ENVIRONMENT"),
        ({"@type": GOOD["@type"], "match": {"path": "/a"}, "normalize_path": True}, ""),
        ({"@type": GOOD["@type"], "token_bucket": {"max_tokens": 5}, "texts": ["a", 1]}, ""),
        ({"@type": EXTENSIONS + "access_loggers.file.v3.FileAccessLog", "path": "/dev/stdout"}, ""),
        ({"@type": EXTENSIONS + "access_loggers.file.v3.FileAccessLog", "path": "/etc/made"}, "path"),
        ({"@type": EXTENSIONS + "filters.http.tap.v3.Tap", "filePerTap": {"pathPrefix": "/a"}}, "pathPrefix"),
        ({"@type": GOOD["@type"], "proto_descriptor": "/dev/zero"}, "proto_descriptor"),
        (GOOD, ""),
    ],
)
def test_files_and_variables_of_the_proxys_machine_are_named(value: Any, field: str) -> None:
    assert named(value) == field


def test_a_patch_that_only_removes_names_nothing() -> None:
    (one, *_) = candidates.trials(*stage.meshed(given := item(patch("CLUSTER", None, "REMOVE"))), given)
    assert foreign_code.foreign(one.whole.patches) == {}


@pytest.mark.parametrize(
    "script",
    [
        {"inline_code": SCRIPT},
        {"default_source_code": {"inline_string": SCRIPT}},
        {"default_source_code": {"inline_bytes": "ZnVuY3Rpb24gZW52b3lfb25fcmVxdWVzdChoKSBlbmQ="}},
        {"inline_code": SCRIPT, "default_source_code": {"filename": "elsewhere.lua"}},
        {"source_codes": {"a": {"inline_string": SCRIPT}}},
    ],
)
def test_of_a_script_nothing_runs(script: Any) -> None:
    found = [each.after for each in changed(http_filter({"@type": LUA, **script}))]
    assert found
    for one in found:
        body = foreign_code.disarmed(trial.body(one), one.type_url)
        assert body is not None
        assert body.count(SCRIPT.encode()) == body.count(f"do return end {SCRIPT}".encode()) > 0


def test_code_elsewhere_is_left_out() -> None:
    struct = {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": LUA, "value": {}}
    per_route = {"typed_per_filter_config": {"lua": {"@type": LUA + "PerRoute", "disabled": True}}}
    wasm = {"@type": EXTENSIONS + "filters.http.wasm.v3.Wasm"}
    for given in (http_filter(struct), http_filter(wasm), patch("HTTP_ROUTE", per_route)):
        bodies = [foreign_code.disarmed(trial.body(each.after), each.after.type_url) for each in changed(given)]
        assert None in bodies


def test_what_carries_no_code_stays_as_it_is() -> None:
    body = listener_pb2.Listener(name="a").SerializeToString()
    assert foreign_code.disarmed(body, names.LISTENER) is body


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"@type": LUA, "inline_code": SCRIPT}, ""),
        ({"@type": LUA, "inline_code": SCRIPT, "x": {"@type": LUA}}, "code"),
        ({"@type": EXTENSIONS + "filters.http.wasm.v3.Wasm"}, "code"),
        ({"@type": EXTENSIONS + "filters.http.wasm.v3.Wasm", "filename": "/a"}, "filename"),
        (GOOD, ""),
    ],
)
def test_neighbours_that_are_left_out_are_named_with_the_reason(value: Any, why: str) -> None:
    given = item(http_filter(value), patch("CLUSTER", None, "REMOVE"))
    (one, *_) = candidates.trials(*stage.meshed(given), given)
    assert foreign_code.unloadable(one.whole.patches) == ({given.key: why} if why else {})


DISCOVERED = {"config_source": {"ads": {}, "resource_api_version": "V3"}, "type_urls": [LUA]}


def test_the_name_of_a_type_that_comes_by_discovery_is_no_code() -> None:
    asking = http_filter({})
    asking["patch"]["value"] = {"name": "own", "config_discovery": DISCOVERED}
    found = [each.after for each in changed(asking)]
    assert found
    assert None not in [foreign_code.disarmed(trial.body(one), one.type_url) for one in found]
    default = {**DISCOVERED, "default_config": {"@type": LUA, "inline_code": SCRIPT}}
    asking["patch"]["value"] = {"name": "own", "config_discovery": default}
    assert {foreign_code.disarmed(trial.body(one.after), one.after.type_url) for one in changed(asking)} == {None}


@pytest.mark.parametrize(
    ("config", "runs"),
    [
        ({"@type": LUA, "default_source_code": {"inline_string": SCRIPT}}, False),
        ({"@type": EXTENSIONS + "filters.http.wasm.v3.Wasm"}, None),
        (GOOD, False),
    ],
)
def test_of_a_script_that_comes_by_discovery_nothing_runs(config: Any, *, runs: bool | None) -> None:
    given = patch("EXTENSION_CONFIG", {"name": "own", "typed_config": config}, "ADD")
    bodies = [foreign_code.disarmed(trial.body(each.after), names.EXTENSION) for each in changed(given)]
    assert len(bodies) == 2
    assert (None in bodies) is (runs is None)
    for body in bodies:
        assert body is None or body.count(SCRIPT.encode()) == body.count(f"do return end {SCRIPT}".encode())
    (one, *_) = candidates.trials(*stage.meshed(given := item(given)), given)
    assert bool(foreign_code.unloadable(one.whole.patches)) is (runs is None)

"""Access logs as the mesh sets them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from envoy.extensions.access_loggers.file.v3 import file_pb2

from istiod.envoy import access_log
from istiod.features import Features
from istiod.mesh.access_logs import Log
from istiod.mesh.loggers import Format, Kind, Logger
from istiod.mesh.settings import AccessLogEncoding, MeshSettings
from tests.envoy import made

RULE = "%METADATA(ROUTE:istio:config)% %METADATA(ROUTE:istio:field)%"


def logged(text: str = "", encoding: AccessLogEncoding = AccessLogEncoding.TEXT) -> dict[str, Any]:
    settings = MeshSettings(access_log_file="/dev/stdout", access_log_format=text, access_log_encoding=encoding)
    (log,) = access_log.requests(settings)
    found = file_pb2.FileAccessLog()
    assert log.typed_config.Unpack(found)
    assert found.path == "/dev/stdout"
    return made.shown(found.log_format)


def test_without_a_file_there_is_no_log() -> None:
    assert access_log.requests(MeshSettings()) == ()
    assert access_log.unrouted(MeshSettings()) == ()


def test_the_default_line_is_istios_and_the_rule() -> None:
    found = logged()
    line = found["text_format_source"]["inline_string"]
    assert line.startswith('[%START_TIME%] "%REQ(:METHOD)%')
    assert line.endswith(f"%ROUTE_NAME% {RULE}\n")
    assert "formatters" not in found


@pytest.mark.parametrize("encoding", list(AccessLogEncoding))
def test_without_the_rule_the_default_is_istios_to_the_byte(encoding: AccessLogEncoding) -> None:
    plain = Features(log_rules=False)
    settings = MeshSettings(access_log_file="/dev/stdout", access_log_encoding=encoding, features=plain)
    found = file_pb2.FileAccessLog.FromString(access_log.requests(settings)[0].typed_config.value)
    shown = made.shown(found.log_format)
    if encoding is AccessLogEncoding.TEXT:
        assert shown["text_format_source"]["inline_string"].endswith("%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n")
    else:
        assert shown["json_format"] == access_log.JSON
        assert len(access_log.JSON) == 24


def test_an_own_line_stays_as_it_is_and_ends() -> None:
    found = logged("%REQ_WITHOUT_QUERY(:PATH)% %RESPONSE_CODE%")
    assert found["text_format_source"]["inline_string"] == "%REQ_WITHOUT_QUERY(:PATH)% %RESPONSE_CODE%\n"
    assert [each["name"] for each in found["formatters"]] == ["envoy.formatter.req_without_query"]
    assert logged("x\n") == {"text_format_source": {"inline_string": "x\n"}}


def test_json_holds_the_rule_by_default_and_an_own_object_as_it_is() -> None:
    found = logged(encoding=AccessLogEncoding.JSON)["json_format"]
    assert (found["start_time"], found["rule"]) == ("%START_TIME%", "%METADATA(ROUTE:istio:config)%")
    assert logged('{"a": {"b": "%PROTOCOL%"}}', AccessLogEncoding.JSON) == {"json_format": {"a": {"b": "%PROTOCOL%"}}}


@pytest.mark.parametrize(
    "text",
    ["not json", "[1]", '{"a":' * 1200, '{"a":' * 120 + "1" + "}" * 120, f'{{"a": {"9" * 400}}}', '{"a": "\\ud800"}'],
    ids=["no JSON", "no object", "endless", "deep", "huge", "half a character"],
)
def test_an_own_format_that_is_no_json_object_gives_the_default(text: str) -> None:
    assert logged(text, AccessLogEncoding.JSON)["json_format"] == logged(encoding=AccessLogEncoding.JSON)["json_format"]


def test_listeners_log_only_what_no_chain_took() -> None:
    (log,) = access_log.unrouted(made.SETTINGS)
    assert list(log.filter.response_flag_filter.flags) == ["NR"]
    assert log.name == "envoy.access_loggers.file"


def test_listeners_log_what_no_chain_took_unless_told_otherwise() -> None:
    settings = MeshSettings(access_log_file="/dev/stdout")
    (log,) = access_log.unrouted(settings, (Log(to=Logger(name="a", path="/a"), expression="true"),))
    assert [one.WhichOneof("filter_specifier") for one in log.filter.and_filter.filters] == [
        "response_flag_filter",
        "extension_filter",
    ]
    assert access_log.unrouted(replace(settings, listener_log=False)) == ()
    (log,) = access_log.requests(settings, (Log(to=Logger(name="a"), expression="true"),))
    assert log.filter.WhichOneof("filter_specifier") == "extension_filter"
    assert access_log.requests(settings, ()) == ()


def test_services_have_istios_names_of_logs() -> None:
    made_of = {kind: Logger(name="a", kind=kind, host="h", cluster="c") for kind in Kind if kind is not Kind.FILE}
    labelled = Format(text="t", fields='{"a": "b"}', json=True)
    made_of[Kind.OTLP] = replace(made_of[Kind.OTLP], format=labelled)
    found = access_log.requests(MeshSettings(), tuple(Log(to=one) for one in made_of.values()))
    assert [(one.name, one.typed_config.type_url.rpartition(".")[2]) for one in found] == [
        ("envoy.access_loggers.http_grpc", "HttpGrpcAccessLogConfig"),
        ("envoy.access_loggers.tcp_grpc", "TcpGrpcAccessLogConfig"),
        ("envoy.access_loggers.open_telemetry", "OpenTelemetryAccessLogConfig"),
    ]
    assert all(
        f"{kind}_envoy_accesslog".encode() in log.typed_config.value for kind, log in zip(KINDS, found, strict=True)
    )


KINDS = ("http", "tcp", "otel")

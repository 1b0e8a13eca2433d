"""Heads of calls: what is one, what is HTTP but no call, and what is not even HTTP."""

from __future__ import annotations

import pytest

from istiod.grpcserver import request
from istiod.grpcserver.request import Header, MalformedHeadersError
from istiod.grpcserver.status import Code, RpcError
from tests.grpcserver.wire import HEAD

CALL = tuple((name.encode(), value.encode()) for name, value in HEAD)


def with_(*headers: Header) -> list[Header]:
    """The call's head with these in place of those of their names."""
    names = {name for name, _ in headers}
    return [*(h for h in CALL if h[0] not in names), *headers]


def test_a_call_has_a_path_metadata_and_perhaps_a_time() -> None:
    found = request.read([*CALL, (b"grpc-timeout", b"90m"), (b"x", b"1"), (b"x", b"\xff")])
    assert found.path == "/test.Echo/Call"
    assert found.timeout == pytest.approx(0.09)
    assert found.values(b"x") == ("1", "\ufffd")
    assert request.read(CALL).timeout is None


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ([b"Bearer abc "], "abc"),
        ([], ""),
        ([b"Basic abc"], ""),
        ([b"Bearer a", b"Bearer b"], ""),
    ],
)
def test_there_is_one_token_or_none(values: list[bytes], token: str) -> None:
    assert request.read([*CALL, *((b"authorization", value) for value in values)]).bearer() == token


@pytest.mark.parametrize(
    "headers",
    [
        CALL[1:],
        [h for h in CALL if h[0] != b":scheme"],
        [h for h in CALL if h[0] != b":path"],
        [(b":path", b"no/slash"), *(h for h in CALL if h[0] != b":path")],
        [*CALL, (b":authority", b"late")],
        [(b":method", b"POST"), *CALL],
        [(b":protocol", b"websocket"), *CALL],
        [*CALL, (b"Upper", b"x")],
        [*CALL, (b"", b"x")],
        [*CALL, (b"x", b"a\r\nb: c")],
        [*CALL, (b"x", b"a\0")],
        [*CALL, (b"connection", b"close")],
        [*CALL, (b"transfer-encoding", b"chunked")],
        with_((b"te", b"gzip")),
    ],
)
def test_what_is_no_request_is_malformed(headers: list[Header]) -> None:
    with pytest.raises(MalformedHeadersError):
        request.read(headers)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ((b"content-type", b"application/json"), Code.INTERNAL),
        ((b"grpc-encoding", b"gzip"), Code.UNIMPLEMENTED),
        ((b"grpc-timeout", b"123456789S"), Code.INTERNAL),
        ((b"grpc-timeout", b"soon"), Code.INTERNAL),
    ],
)
def test_what_is_no_call_that_we_take_is_told_so(header: Header, code: Code) -> None:
    with pytest.raises(RpcError) as caught:
        request.read(with_(header))
    assert caught.value.code is code


def test_a_call_without_trailers_is_told_that_a_proxy_is_between() -> None:
    with pytest.raises(RpcError, match="does not know gRPC"):
        request.read([header for header in CALL if header[0] != b"te"])


def test_other_methods_than_post_are_no_calls() -> None:
    with pytest.raises(RpcError):
        request.read([(b":method", b"GET"), *CALL[1:]])
    request.read(with_((b"grpc-encoding", b"identity"), (b"content-type", b"application/grpc+proto")))

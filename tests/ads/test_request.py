"""Requests from bytes: the short way for plain ACKs says what the long one says."""

from __future__ import annotations

import math

import hypothesis
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format
from google.rpc import status_pb2
from hypothesis import strategies as st

from istiod.ads import request
from istiod.ads.request import MalformedRequestError, Request
from wire import names

TYPES = st.sampled_from([names.CLUSTER, names.ENDPOINT, names.TYPE_PREFIX + "x"])
NONCES = st.one_of(st.sampled_from(["", "1", "ff", "7" * 126, "7" * 127, "7" * 128, "7" * 300]), st.text(max_size=5))


@hypothesis.given(TYPES, NONCES, st.lists(st.text(max_size=3), max_size=2), st.sampled_from([None, "no"]))
def test_a_delta_request_says_what_its_message_says(
    type_url: str, nonce: str, subscribe: list[str], error: str | None
) -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(
        type_url=type_url, response_nonce=nonce, resource_names_subscribe=subscribe
    )
    if error:
        message.error_detail.CopyFrom(status_pb2.Status(message=error))
    assert request.decode_delta(message.SerializeToString()) == request.Decoded(
        Request(type_url=type_url, nonce=nonce, subscribe=tuple(subscribe), error=error), None
    )


def test_every_piece_of_an_ack_is_told_as_the_long_way_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ack = discovery_pb2.DeltaDiscoveryRequest(type_url=names.ENDPOINT, response_nonce="1f").SerializeToString()
    pieces = [ack[:end] for end in range(len(ack) + 1)] + [ack + b"\x32", ack + ack, ack[:-3] + b"\x03" + ack[-2:]]
    short = [_told(piece) for piece in pieces]
    monkeypatch.setattr(request, "_ACKS", {})
    assert [_told(piece) for piece in pieces] == short


def test_a_long_list_of_names_that_was_said_before_is_the_same_value_unless_it_comes_with_a_node() -> None:
    listed = [f"outbound|80||svc-{number}.default.svc.cluster.local" for number in range(200)]
    message = discovery_pb2.DeltaDiscoveryRequest(type_url=names.ENDPOINT, resource_names_subscribe=listed)
    one, other = (request.decode_delta(message.SerializeToString()) for _ in range(2))
    assert one is other
    assert one.request == Request(type_url=names.ENDPOINT, subscribe=tuple(listed))
    message.resource_names_subscribe.append("one.more")
    assert request.decode_delta(message.SerializeToString()).request.subscribe == (*listed, "one.more")
    message.node.id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local"
    one, other = (request.decode_delta(message.SerializeToString()) for _ in range(2))
    assert one == other
    assert one is not other


def test_what_is_refused_is_refused_again() -> None:
    foreign = discovery_pb2.DeltaDiscoveryRequest(type_url="foreign", resource_names_subscribe=["a" * 5_000])
    assert _told(foreign.SerializeToString()) is _told(foreign.SerializeToString()) is request.ForeignTypeError


def _told(raw: bytes) -> Request | type[Exception]:
    try:
        return request.decode_delta(raw).request
    except (MalformedRequestError, request.ForeignTypeError) as error:
        return type(error)


def test_whole_numbers_of_metadata_are_such_again() -> None:
    node = base_pb2.Node(id="sidecar~10.0.0.1~a.b~b.svc.cluster.local")
    said = {"PROXY_CONFIG": {"gatewayTopology": {"numTrustedProxies": 2}, "more": [1, {"a": 0.5}]}, "ON": True}
    node.metadata.update(said)
    found = request.claims(node).metadata
    assert found == said
    assert isinstance(found["PROXY_CONFIG"]["gatewayTopology"]["numTrustedProxies"], int)  # type: ignore[index]  # JSON


JSON = st.recursive(
    st.none() | st.booleans() | st.text() | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x % 1),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=8,
)


@hypothesis.given(st.dictionaries(st.text(), JSON, max_size=4))
def test_metadata_is_what_its_json_says(said: dict[str, object]) -> None:
    node = base_pb2.Node(id="sidecar~10.0.0.1~a.b~b.svc.cluster.local")
    json_format.ParseDict(said, node.metadata)
    assert request.claims(node).metadata == json_format.MessageToDict(node.metadata)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_that_json_has_not_is_refused(number: float) -> None:
    node = base_pb2.Node(id="sidecar~10.0.0.1~a.b~b.svc.cluster.local")
    node.metadata.fields["a"].list_value.values.add().number_value = number
    with pytest.raises(MalformedRequestError, match="a number that is none"):
        request.claims(node)


@pytest.mark.parametrize(
    ("said", "version"), [({}, ()), ({"version": {"major_number": 1, "minor_number": 36}}, (1, 36, 0))]
)
def test_a_node_says_which_envoy_it_is(said: dict[str, object], version: tuple[int, ...]) -> None:
    node = base_pb2.Node(id="sidecar~10.0.0.1~a.b~b.svc.cluster.local")
    if said:
        json_format.ParseDict(said, node.user_agent_build_version)
    assert request.claims(node).envoy == version

"""The protocol against the h2 library's client: however bytes are cut and windows grow, every message comes whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hypothesis import given
from hypothesis import strategies as st

from istiod.grpcserver import frames
from tests.grpcserver.wire import HEAD, Wire, message


@dataclass
class Client:
    """h2's client of one call, whose window grows by ``step`` when it has room for nothing."""

    window: int
    http: H2Connection = field(default_factory=lambda: H2Connection(H2Configuration(header_encoding="utf-8")))
    got: bytearray = field(default_factory=bytearray)
    status: str = ""

    def __post_init__(self) -> None:
        values = {SettingCodes.INITIAL_WINDOW_SIZE: self.window, SettingCodes.MAX_FRAME_SIZE: 16_384}
        self.http.local_settings = Settings(client=True, initial_values=values)
        self.http.initiate_connection()
        self.http.send_headers(1, HEAD)

    def take(self, raw: bytes) -> None:
        for event in self.http.receive_data(raw):
            if isinstance(event, events.DataReceived):
                self.got += event.data
                self.http.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, events.TrailersReceived | events.ResponseReceived):
                self.status = dict(event.headers).get("grpc-status", "")


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes in pieces of these sizes, over and over."""
    found, at, turn = [], 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        found.append(raw[at : at + size])
        at, turn = at + size, turn + 1
    return found


@given(
    bodies=st.lists(st.integers(0, 60_000).map(lambda size: bytes((size % 251,)) * size), max_size=5),
    inward=st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
    outward=st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
    window=st.integers(1_000, 100_000),
    limit=st.integers(100, 70_000),
)
def test_every_message_comes_back_whole_however_bytes_are_cut(
    bodies: list[bytes], inward: list[int], outward: list[int], window: int, limit: int
) -> None:
    wire = Wire(echo=True, accept=1 << 20, greet=False)
    client = Client(window)
    waiting = b"".join(map(message, bodies))
    ended = False
    for _ in range(10_000):
        room = min(client.http.local_flow_control_window(1), client.http.max_outbound_frame_size, len(waiting))
        if room > 0:
            client.http.send_data(1, waiting[:room])
            waiting = waiting[room:]
        elif not waiting and not ended:
            client.http.end_stream(1)
            ended = True
        said = client.http.data_to_send()
        for piece in cut(said, inward):
            wire.say(piece)
        heard = wire.http.take(limit)
        for piece in cut(heard, outward):
            client.take(piece)
        if not said and not heard and ended:
            break
    assert bytes(client.got) == b"".join(map(message, bodies))
    assert client.status == "0"
    assert not wire.http.closed


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_raise(pieces: list[bytes]) -> None:
    wire = Wire(echo=True)
    wire.say(wire.headers())
    for piece in pieces:
        wire.say(piece)
    wire.hear()
    assert wire.http.closed or wire.http.streams or wire.calls[0].events


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)), max_size=40)
)
def test_no_frames_raise_and_what_ends_is_told_once(sent: list[tuple[int, int, int, bytes]]) -> None:

    wire = Wire(echo=True)
    wire.say(wire.headers())
    for kind, flags, number, payload in sent:
        wire.say(frames.frame(kind, flags, number, payload))
        wire.hear()
    assert all(call.events.count("lost") <= 1 for call in wire.calls)
    if wire.http.closed:
        assert not wire.http.streams

"""Header blocks one after the other: as one decoder reads them, though the first is remembered for all connections."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from istiod.grpcserver import frames, headers
from istiod.grpcserver.frames import ProtocolError
from istiod.grpcserver.headers import Heads

WORDS = st.sampled_from(["a", "b", "x-long", "value", "x" * 300, "y" * 600])
BLOCKS = st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=5), min_size=1, max_size=4)


def read(heads: Heads, block: bytes) -> list[tuple[bytes, bytes]]:
    found = heads.frame(frames.HEADERS, frames.END_HEADERS, 1, block)
    assert found is not None
    return found


@given(BLOCKS)
def test_each_block_is_read_with_the_table_that_those_before_left(said: list[list[tuple[str, str]]]) -> None:
    for _ in range(2):  # the second connection is told what the first one said
        heads, encoder = Heads(), hpack.Encoder()
        for each in said:
            expected = [(name.encode(), value.encode()) for name, value in each]
            assert read(heads, encoder.encode(each)) == expected


def test_what_a_connection_makes_of_the_headers_is_its_own() -> None:
    block = hpack.Encoder().encode([("a", "1")])
    read(Heads(), block).clear()
    assert read(Heads(), block) == [(b"a", b"1")]


def test_a_block_that_cannot_be_read_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError):
            read(Heads(), b"\xbe")


def test_a_token_is_not_remembered() -> None:
    headers._first.cache_clear()
    read(Heads(), hpack.Encoder().encode([("authorization", "Bearer " + "~" * 600)]))
    assert headers._first.cache_info().currsize == 0

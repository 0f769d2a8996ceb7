"""Messages cut out of a stream, however it is chopped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._net.framing import HEADER_BYTES, Unframer, header
from scalepool.errors import ProtocolError

LIMIT = 1000


def framed(message: bytes) -> bytes:
    return header(len(message)) + message


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 60), max_size=30))
def test_what_was_framed_comes_out_again(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, messages))
    unframer = Unframer(LIMIT)
    out: list[bytes] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        out += unframer.feed(stream[at : at + cut])
        at += cut
    assert out == messages
    assert unframer.missing_bytes == 0


def test_it_says_how_much_of_a_message_is_missing() -> None:
    unframer = Unframer(LIMIT)
    assert unframer.feed(framed(b"x" * 100)[: HEADER_BYTES + 30]) == []
    assert unframer.missing_bytes == 70
    assert unframer.feed(b"x" * 70 + b"\1") == [b"x" * 100]
    assert unframer.missing_bytes == 0


def test_the_largest_message_passes_and_a_larger_one_is_refused_by_its_header() -> None:
    unframer = Unframer(LIMIT)
    assert unframer.feed(framed(b"x" * LIMIT)) == [b"x" * LIMIT]
    with pytest.raises(ProtocolError, match=r"1001 bytes exceeds the limit of 1000"):
        unframer.feed(header(LIMIT + 1))


def test_noise_announces_too_much() -> None:
    with pytest.raises(ProtocolError):
        Unframer(LIMIT).feed(b"GET / HTTP/1.1\r\n\r\n")

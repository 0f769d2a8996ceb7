"""Who joins says what it runs, whatever its version, and is told what differs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._wire.handshake import (
    MAX_INTRODUCTION_BYTES,
    Introduction,
    decode_introduction,
    differences,
    encode_introduction,
)
from scalepool.errors import ProtocolError

HERE = Introduction(1, "3.11", "3.1", "alpha", "c0ffee")
MARK = encode_introduction(HERE).partition(b"\n")[0] + b"\n"


def test_what_is_said_is_heard() -> None:
    assert decode_introduction(encode_introduction(HERE)) == HERE
    long = HERE._replace(host="h" * 10_000)
    assert decode_introduction(encode_introduction(long)).host == "h" * 255


def test_another_version_is_understood_as_far_as_it_is_known_here() -> None:
    assert decode_introduction(MARK + b'{"wire": 9, "colour": "red"}') == Introduction(9, "", "")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", MARK, MARK + b"{", MARK + b"{}", MARK + b"[]", MARK + b"3", MARK + b'{"wire": "1"}',
        MARK + b'{"wire": true}', MARK + b'{"wire": 1, "python": 3}', MARK + b'{"wire": 1, "host": "a\\u001b[2J"}',
        MARK + b"[" * 4000, MARK + b"\xff",
        MARK + json.dumps({"wire": 1, "host": "x" * MAX_INTRODUCTION_BYTES}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_introduction_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_introduction(data)


def test_a_head_says_what_heartbeats_it_wants() -> None:
    head = HERE._replace(heartbeat_interval_s=1.0, heartbeat_timeout_s=5)
    assert decode_introduction(encode_introduction(head)) == head
    assert decode_introduction(MARK + b'{"wire": 1}').heartbeat_timeout_s == 0.0


@pytest.mark.parametrize("time_s", [-1.0, 1e9, float("nan"), "1", True, None])
def test_heartbeats_that_make_no_sense_are_refused(time_s: object) -> None:
    with pytest.raises(ProtocolError):
        decode_introduction(MARK + json.dumps({"wire": 1, "heartbeat_timeout_s": time_s}).encode())


@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else(noise: bytes) -> None:
    for data in (noise, MARK + noise):
        try:
            decode_introduction(data)
        except ProtocolError:
            continue
        assert json.loads(data[len(MARK) :])["wire"] is not None


def test_what_goes_together_has_no_table() -> None:
    assert differences([("here", HERE), ("head", HERE._replace(host="beta"))]) == ""


def test_the_table_has_a_row_for_each_side_and_a_column_for_each_difference() -> None:
    head = HERE._replace(wire=12, python="3.9")
    assert differences([("this worker", HERE), ("the head", head)]).splitlines() == [
        "             protocol  Python",
        "this worker  1         3.11",
        "the head     12        3.9",
    ]
    assert differences([("a", HERE), ("b", HERE._replace(cloudpickle="2.2"))]) == "   cloudpickle\na  3.1\nb  2.2"

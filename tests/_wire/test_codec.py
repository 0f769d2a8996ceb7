"""Any bytes decode to a message or raise ProtocolError; every message survives the way there and back."""

from __future__ import annotations

import struct
import sys
import typing
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepool._wire import codec
from scalepool._wire import messages as m
from scalepool._wire.codec import decode, encode
from scalepool.errors import ProtocolError

KINDS = typing.get_args(m.Message)
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)
FIELDS: dict[object, st.SearchStrategy[object]] = {
    int: NUMBERS,
    bytes: st.binary(max_size=40),
    m.Ints: st.lists(NUMBERS, max_size=6).map(tuple),
    m.Blobs: st.lists(st.binary(max_size=10), max_size=6).map(tuple),
}
SUBMIT = m.Submit(1, 0, (7,), (b"function",), (5, 6), (7, 7), (b"", b"arguments"), (1, 0), (9,), (9, 1, 2, 3))


def any_of(kind: type) -> st.SearchStrategy[m.Message]:
    hints = typing.get_type_hints(kind)
    fields = typing.cast("typing.Any", kind)._fields
    return st.builds(kind, **{name: FIELDS[hints[name]] for name in fields})


MESSAGES = st.one_of([any_of(kind) for kind in KINDS])


def plain(message: m.Message) -> tuple[object, ...]:
    """Its fields, with every column as a tuple."""
    return tuple(tuple(value) if isinstance(value, list) else value for value in message)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(deadline=None)
@given(data=st.data())
def test_round_trip_of_every_kind(kind: type, data: st.DataObject) -> None:
    message = data.draw(any_of(kind))
    arrived = decode(encode(message))
    assert type(arrived) is kind
    assert plain(arrived) == plain(message)


def test_columns_may_be_lists() -> None:
    listed = m.Free([1, 2, 3])
    assert plain(decode(encode(listed))) == ((1, 2, 3),)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert encode(message) == data


@settings(deadline=None)
@given(MESSAGES, st.data())
def test_a_damaged_message_decodes_or_is_refused(message: m.Message, data: st.DataObject) -> None:
    whole = bytearray(encode(message))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        arrived = decode(bytes(whole))
    except ProtocolError:
        return
    assert encode(arrived) == whole


@settings(deadline=None)
@given(MESSAGES, st.integers(1, 30))
def test_a_message_cut_short_is_refused(message: m.Message, missing: int) -> None:
    whole = encode(message)
    with pytest.raises(ProtocolError):
        decode(whole[: max(0, len(whole) - missing)])


@settings(deadline=None)
@given(MESSAGES, st.binary(min_size=1, max_size=5))
def test_a_message_with_something_after_it_is_refused(message: m.Message, rest: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(encode(message) + rest)


HUGE = b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty message"),
        (bytes([len(KINDS)]), "unknown kind"),
        (b"\xff", "unknown kind"),
        (encode(m.Recall(1))[:5], "Recall message ends too early"),
        (encode(m.Exit()) + b"x", "1 bytes too many after a Exit message"),
        (encode(m.InitializerFailed(b""))[:1] + HUGE, "InitializerFailed message ends too early"),
        (encode(m.Free(()))[:1] + HUGE, "a column reaches past the end"),
        (encode(m.Done((b"",)))[:1] + struct.pack("<IIII", 1, 0, 0, 99), "a column of blobs reaches past the end"),
        (encode(m.Done((b"",)))[:1] + struct.pack("<IIIII", 2, 0, 0, 99, 0), "a column of blobs reaches past the end"),
        (encode(m.Done((b"",)))[:1] + struct.pack("<III", 2, 0, 0), "a column reaches past the end"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode(data)


def test_a_message_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode(m.InitializerFailed(bytes(100)))
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", len(whole))
    assert decode(whole) == m.InitializerFailed(bytes(100))
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", len(whole) - 1)
    with pytest.raises(ProtocolError, match="exceeds the limit"):
        decode(whole)


def test_every_kind_has_its_own_number() -> None:
    numbers = [encode(kind(*[_empty(kind, name) for name in kind._fields]))[0] for kind in KINDS]
    assert sorted(numbers) == list(range(len(KINDS)))


def _empty(kind: type, name: str) -> object:
    return {int: 0, bytes: b""}.get(typing.get_type_hints(kind)[name], ())


def test_the_bytes_of_a_message_are_fixed() -> None:
    # Little-endian whatever the machine: two hosts of one cluster need not be alike.
    assert encode(m.Recall(258)).hex() == "0a" + "0201000000000000"
    assert encode(m.Cancel([1])).hex() == "05" + "01000000" + "0000000000000000" + "0100000000000000"
    assert encode(m.Done([b"ab"], (), [3])).hex() == (
        "0d" + "01000000" + "00000000" + "01000000" + "02000000" + "6162" + "0300000000000000"
    )


def test_a_big_endian_machine_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    here = encode(SUBMIT)
    monkeypatch.setattr(codec, "_SWAP", not codec._SWAP)
    there = encode(SUBMIT)
    assert there != here
    assert plain(decode(there)) == plain(SUBMIT)
    column = array("q", [5, 6])
    column.byteswap()
    assert column.tobytes() in there
    assert sys.byteorder in ("little", "big")

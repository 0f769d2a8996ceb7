"""Result records: any bytes are a record or a protocol error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepool._wire.messages import Status
from scalepool._wire.records import (
    PARTS,
    Part,
    ResultRecord,
    has_parts,
    note_objects,
    object_count,
    pack_parts,
    pack_result,
    pack_stream_end,
    split_noted,
    unpack_parts,
    unpack_result,
    unpack_stream_end,
)
from scalepool.errors import ProtocolError

RECORDS = st.builds(
    ResultRecord,
    task=st.integers(-(1 << 63), (1 << 63) - 1),
    attempt=st.integers(0, (1 << 16) - 1),
    status=st.sampled_from([Status.VALUE, Status.ERROR]),
    objects=st.integers(0, 255),
    micros=st.integers(0, (1 << 63) - 1),
    payload=st.binary(),
)


@settings(deadline=None)
@given(RECORDS)
def test_round_trip(record: ResultRecord) -> None:
    assert unpack_result(pack_result(*record)) == record


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_a_protocol_error(data: bytes) -> None:
    try:
        record = unpack_result(data)
    except ProtocolError:
        return
    assert pack_result(*record) == data


@pytest.mark.parametrize("size", [0, 1, 19])
def test_a_record_that_ends_too_early(size: int) -> None:
    whole = pack_result(1, 1, Status.VALUE, 0, 5, b"")
    assert len(whole) == 20
    with pytest.raises(ProtocolError, match="ends too early"):
        unpack_result(whole[:size])


@pytest.mark.parametrize(
    ("status", "micros"),
    [(Status.CANCELLED, 5), (Status.WORKER_DIED, 5), (Status.INITIALIZER_FAILED, 5), (255, 5), (0, -1)],
)
def test_a_worker_tells_only_what_it_can_know(status: int, micros: int) -> None:
    with pytest.raises(ProtocolError, match="task 7 ended as"):
        unpack_result(pack_result(7, 1, status, 0, micros, b""))


PARTS_OF_A_RESULT = st.lists(
    st.builds(
        Part,
        payload=st.binary(max_size=20),
        objects=st.integers(0, 1 << 20),
        references=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(PARTS_OF_A_RESULT)
def test_parts_survive_the_way_there_and_back(parts: list[Part]) -> None:
    body = pack_parts(parts)
    assert unpack_parts(body) == parts
    record = pack_result(7, 1, PARTS, 0, 5, body)
    assert has_parts(record)
    assert unpack_result(record).payload == body
    assert not has_parts(pack_result(7, 1, Status.VALUE, 0, 5, body))


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_parts_or_a_protocol_error(data: bytes) -> None:
    try:
        parts = unpack_parts(data)
    except ProtocolError:
        return
    assert pack_parts(parts) == data


def test_parts_count_their_objects_themselves() -> None:
    with pytest.raises(ProtocolError, match="task 7 ended as 128"):
        unpack_result(pack_result(7, 1, PARTS, 1, 5, pack_parts([Part(b"")])))


def test_the_end_of_a_stream_says_how_many_values_it_had() -> None:
    assert unpack_stream_end(pack_stream_end(7, b"end")) == (7, b"end")
    assert unpack_stream_end(b"short") == (1 << 63, b""), "so many never came: it is not believed"


@pytest.mark.parametrize("objects", [[], [(5, 70_000)], [(5, 70_000), (1 << 62, 0)]])
def test_the_log_notes_objects_and_the_record_stays_what_it_was(objects: list[tuple[int, int]]) -> None:
    parts = pack_parts([Part(b"x", len(objects))])
    for record in (pack_result(1, 1, Status.VALUE, len(objects), 5, b"data"), pack_result(1, 1, PARTS, 0, 5, parts)):
        noted = note_objects(record, objects)
        assert split_noted(noted) == (record, objects)
        assert split_noted(record) == (record, [])
        assert object_count(unpack_result(record)) == len(objects)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_noted_record_or_are_left_alone(data: bytes) -> None:
    record, objects = split_noted(data)
    assert note_objects(record, objects) == data if objects else data.startswith(record[:10])

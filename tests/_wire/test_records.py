"""Result records: any bytes are a record or a protocol error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalepool._wire.messages import Status
from scalepool._wire.records import ResultRecord, pack_result, unpack_result
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

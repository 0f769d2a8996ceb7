"""What programs and the steward say to each other, and what makes no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._wire.stewards import ATTACH, GATE, Operation, Way, joined, operation_of, parted, way_of
from scalepool.errors import ProtocolError


@given(st.lists(st.binary()))
def test_bytes_in_a_row_come_apart_as_they_were(parts: list[bytes]) -> None:
    assert parted(joined(parts)) == parts


@given(st.lists(st.binary(), min_size=1), st.integers(1, 3))
def test_a_row_that_is_cut_off_is_noticed(parts: list[bytes], cut: int) -> None:
    with pytest.raises(ProtocolError, match="too early"):
        parted(joined([*parts, b"four"])[:-cut])


def test_the_three_sorts_of_functions_are_told_apart() -> None:
    way = Way("C.add", 3, 1.5, b"\x80method")
    assert way_of(way.encode()) == way
    assert operation_of(way.encode()) is None
    for operation in Operation:
        assert operation_of(operation.function) is operation
        assert way_of(operation.function) is None
        assert operation.function != ATTACH
    for packed in (b"\x80pickle", b"\x01parts"):
        assert operation_of(packed) is None
        assert way_of(packed) is None


@pytest.mark.parametrize("terms", [b"[]", b"{", b'["a", -1, 0]', b'["a", 0, -1]', b'["a", 0, 1e999]', b'["a", 0, NaN]'])
def test_terms_that_make_no_sense_are_refused(terms: bytes) -> None:
    with pytest.raises(ProtocolError):
        way_of(b"\x02" + joined([terms, b"method"]))
    with pytest.raises(ProtocolError):
        way_of(b"\x02" + joined([terms]))


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ProtocolError, match="cannot do"):
        operation_of(b"\x00dance")


def test_no_worker_is_taken_for_a_gate() -> None:
    from scalepool._runtime.spec import WorkerSpec

    assert not WorkerSpec({}, b"context").encode().startswith(GATE[:4])

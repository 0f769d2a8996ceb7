"""Large bytes stay beside the pickle, uncopied, and come back as they were."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from scalepool._wire import payload
from scalepool._wire.pickling.arrays import source_of
from scalepool._wire.pickling.importable import by_value_modules
from scalepool._wire.pickling.streams import LARGE_BYTES, PieceReader, PieceWriter, holds_large_bytes

BIG = bytes(range(256)) * (LARGE_BYTES // 128)
THRESHOLD = 65_536
VALUES: dict[str, Any] = {
    "bytes": BIG,
    "bytearray": bytearray(BIG),
    "text": "\u00e4" * LARGE_BYTES,
    "deep inside": {"a": [1, BIG, {"b": (BIG[1:], "x")}], "c": list(range(200_000))},
    "twice": [BIG, BIG],
}


@pytest.mark.parametrize("name", VALUES)
def test_large_bytes_are_kept_apart_and_read_back(name: str) -> None:
    value = VALUES[name]
    packed = payload.dumps(value, oob_threshold=THRESHOLD)
    assert packed.gaps
    assert packed.took_apart
    assert len(packed.data) < packed.size_bytes - LARGE_BYTES
    found = payload.loads(packed.data, packed.buffers, packed.gaps)
    assert found == value
    assert type(found) is type(value)
    again = payload.dumps(value, oob_threshold=THRESHOLD, apart=True)
    assert [bytes(view) for view in again.buffers] == [bytes(view) for view in packed.buffers]


def test_they_are_not_copied() -> None:
    data = bytearray(BIG)
    (view,) = payload.dumps([data], oob_threshold=THRESHOLD).buffers
    data[5] = 77
    assert view[5] == 77


@pytest.mark.parametrize("value", [b"x" * 1000, "x" * 1000, list(range(300_000)), [BIG[:1000]] * 500, None])
def test_what_has_none_is_one_pickle(value: Any) -> None:
    packed = payload.dumps(value, oob_threshold=THRESHOLD)
    assert (packed.gaps, packed.buffers, packed.took_apart) == ((), (), False)
    apart = payload.dumps(value, oob_threshold=THRESHOLD, apart=True)
    assert payload.loads(apart.data, apart.buffers, apart.gaps) == value


@pytest.mark.parametrize("before", [[], [1], ["a" * 70_000], [b"b" * 300]])
@pytest.mark.parametrize("large", [BIG, bytearray(BIG), "c" * LARGE_BYTES])
def test_large_bytes_are_seen_in_a_finished_pickle(before: list[Any], large: Any) -> None:
    assert holds_large_bytes(pickle.dumps([*before, large, 5], 5))
    assert not holds_large_bytes(pickle.dumps([*before, large[: LARGE_BYTES - 1], 5], 5))


@pytest.mark.parametrize("data", [b"", b"\x80\x05", b"\x80\x05B\xff\xff\xff\x7f" + bytes(20), bytes(100), b"\x95" * 50])
def test_nonsense_holds_nothing(data: bytes) -> None:
    assert not holds_large_bytes(data)


def test_a_reader_crosses_pieces_and_knows_the_end() -> None:
    def reader() -> PieceReader:
        return PieceReader(memoryview(b"ab\ncd"), [memoryview(b"12"), memoryview(b"345")], [1, 4])

    assert bytes(reader().read(100)) == b"a12b\nc345d"
    assert reader().readline() == b"a12b\n"
    into = bytearray(4)
    one = reader()
    assert (one.readinto(into), bytes(into)) == (4, b"a12b")
    assert bytes(one.read(1)) == b"\n"
    assert one.readinto(bytearray(100)) == 5
    assert (bytes(one.read(1)), one.readinto(into), one.readline()) == (b"", 0, b"")


def test_a_writer_gives_pieces_in_order() -> None:
    writer = PieceWriter()
    for piece in (b"ab", BIG, b"cd", BIG):
        writer.write(piece)
    assert writer.pieces() == (b"abcd", (memoryview(BIG), memoryview(BIG)), (2, 4))


MATRIX = np.arange(400.0 * 400).reshape(400, 400)
ARRAYS: dict[str, Any] = {
    "columns": MATRIX[:, 10:390],
    "backwards": MATRIX[::-1],
    "dates": np.arange(100_000).astype("M8[s]"),
    "spans, other byte order": np.arange(100_000).astype(">m8[ms]"),
    "records": np.ones(50_000, "i4,f8").view(np.recarray),
    "fortran records": np.asfortranarray(MATRIX).view(np.recarray),
    "memmap without a file": MATRIX.view(np.memmap),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_numpy_would_copy_stay_outside_and_arrive_the_same(name: str) -> None:
    array = ARRAYS[name]
    packed = payload.dumps([array], oob_threshold=THRESHOLD)
    assert packed.took_apart
    assert [view.nbytes for view in packed.buffers] == [array.nbytes]
    assert packed.gaps == ()
    (found,) = payload.loads(packed.data, [bytearray(view) for view in packed.buffers])
    usual = pickle.loads(pickle.dumps(array, 5))
    assert type(found) is type(usual)
    assert found.dtype == array.dtype  # numpy itself loses the byte order of dates
    assert (found.shape, found.flags.f_contiguous) == (usual.shape, usual.flags.f_contiguous)
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


def test_they_stay_outside_also_when_the_reader_has_to_be_told_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = by_value_modules()
    modules.names()  # up to date, so that what follows stays
    monkeypatch.setattr(modules, "_elsewhere", {b"numpy": ("/somewhere", ())})
    monkeypatch.setattr(modules, "_needles", (b"numpy",))
    packed = payload.dumps([MATRIX[:, 10:390]], oob_threshold=THRESHOLD)
    assert b"/somewhere" in packed.data
    assert [view.nbytes for view in packed.buffers] == [MATRIX[:, 10:390].nbytes]


def test_a_copy_of_a_slice_knows_where_it_is_from() -> None:
    columns = MATRIX[:, 1:]
    (view,) = payload.dumps(columns, oob_threshold=THRESHOLD).buffers
    owner: Any = view.obj
    found = []
    while isinstance(owner, np.ndarray):
        found.append(source_of(owner))
        owner = owner.base
    assert any(source is columns for source in found)


def test_what_the_user_has_registered_comes_first() -> None:
    import copyreg

    class Marked:
        pass

    copyreg.pickle(np.memmap, lambda array: (Marked, ()))
    try:
        packed = payload.dumps(MATRIX.view(np.memmap), oob_threshold=THRESHOLD, apart=True)
        assert packed.size_bytes < 10_000
    finally:
        copyreg.dispatch_table.pop(np.memmap)

"""Arrays on their way to joblib tasks: mapped or not, sent once, and never changed behind the caller's back."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

from scalepool._joblib import pickling
from scalepool._joblib.arrays import ArrayMapper, arrays_from
from scalepool._runtime.session import current

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 200_000  # float64: 1.6 MB, above joblib's default max_nbytes


def run(task: Any, **options: Any) -> Any:
    return Parallel(n_jobs=2, backend="scalepool", **options)([task, task])


def describe(array: Any) -> tuple[bool, bool, float]:
    return isinstance(array, np.memmap), bool(array.flags.writeable), float(array.sum())


def change(array: Any) -> float:
    array += 1
    return float(array[0])


def write(array: Any, at: int, value: float) -> None:
    array[at] = value


def add_up(rows: list[Any], *, extra: dict[str, Any]) -> tuple[set[str], float]:
    arrays = [*rows, *extra.values()]
    return {type(array).__name__ for array in arrays}, float(sum(array.sum() for array in arrays))


def outer(array: Any) -> list[tuple[bool, bool, float]]:
    return list(Parallel(n_jobs=2)([delayed(describe)(array), delayed(describe)(array[1:-1])]))


@pytest.mark.live
@pytest.mark.parametrize(
    ("options", "is_mapped", "is_writable"),
    [
        ({}, True, False),
        ({"mmap_mode": "r"}, True, False),
        ({"mmap_mode": "c"}, True, True),
        ({"mmap_mode": "r+"}, True, True),
        ({"mmap_mode": "w+"}, True, True),
        ({"mmap_mode": None}, False, True),
        ({"max_nbytes": None}, False, True),
        ({"max_nbytes": "100M"}, False, True),
    ],
)
def test_the_mode_decides(options: dict[str, Any], is_mapped: bool, is_writable: bool) -> None:
    array = np.arange(LARGE, dtype=float)
    assert run(delayed(describe)(array), **options) == [(is_mapped, is_writable, array.sum())] * 2


@pytest.mark.live
@pytest.mark.parametrize("mode", ["c", "r+", None])
def test_changes_stay_in_the_task(mode: str | None) -> None:
    array = np.zeros(LARGE)
    assert run(delayed(change)(array), mmap_mode=mode) == [1.0, 1.0]
    assert not array.any()


@pytest.mark.live
def test_small_and_object_arrays_are_plain() -> None:
    small, objects = np.arange(10.0), np.array([1] * LARGE, dtype=object)
    assert run(delayed(describe)(small)) == [(False, True, 45.0)] * 2
    assert run(delayed(describe)(objects)) == [(False, True, float(LARGE))] * 2


@pytest.mark.live
def test_arrays_are_found_wherever_they_sit() -> None:
    array = np.ones(LARGE)
    task = delayed(functools.partial(add_up, [array, array], extra={"deep": array}))()
    assert run(task) == [({"memmap"}, 3.0 * LARGE)] * 2
    assert run(delayed(lambda: describe(array))()) == [(True, False, float(LARGE))] * 2


@pytest.mark.live
def test_data_frames_are_mapped_inside() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(LARGE, dtype=float), "b": np.ones(LARGE)})
    assert run(delayed(lambda table: float(table["a"].sum()))(frame)) == [float(frame["a"].sum())] * 2


@pytest.mark.live
@pytest.mark.parametrize(
    "make",
    [
        lambda: np.asfortranarray(np.arange(LARGE, dtype=float).reshape(400, -1)),
        lambda: np.arange(4 * LARGE, dtype=float).reshape(800, -1)[::2, ::2],
        lambda: np.arange(LARGE, dtype=float)[::-1],
        lambda: np.arange(LARGE, dtype=">f8"),
        lambda: np.arange(LARGE).astype("M8[s]"),
        lambda: np.zeros(LARGE, dtype=[("x", "f8"), ("y", "i4")]),
    ],
)
def test_layout_and_type_survive_the_way_there_and_back(make: Any) -> None:
    array = make()
    for back in run(delayed(lambda x: x)(array)):
        assert type(back) is np.ndarray
        assert back.dtype == array.dtype
        assert back.dtype.byteorder == array.dtype.byteorder
        np.testing.assert_array_equal(back, array)
        back[0] = back[1]  # writable


@pytest.mark.live
def test_tasks_write_into_a_file_of_the_users(tmp_path: Path) -> None:
    target = np.memmap(tmp_path / "out", dtype=float, mode="w+", shape=(10, 4))
    column = target[2:, 1]
    Parallel(n_jobs=2, backend="scalepool")(delayed(write)(column, n, n + 1.0) for n in range(8))
    np.testing.assert_array_equal(target[2:, 1], np.arange(1.0, 9.0))
    assert target.sum() == 36.0


@pytest.mark.live
def test_an_array_that_changed_between_calls_is_sent_anew() -> None:
    array = np.zeros(LARGE)
    with Parallel(n_jobs=2, backend="scalepool") as parallel:
        before = parallel([delayed(describe)(array)])
        array[:] = 1.0
        after = parallel([delayed(describe)(array)])
    assert [before[0][2], after[0][2]] == [0.0, float(LARGE)]


@pytest.mark.live
def test_nested_calls_pass_the_mapping_on() -> None:
    array = np.ones(LARGE)
    with parallel_config(backend="scalepool", n_jobs=2):
        found = Parallel()([delayed(outer)(array)] * 2)
    assert found == [[(True, False, float(LARGE)), (True, False, float(LARGE - 2))]] * 2


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mmap_mode"):
        ArrayMapper(1, "rw")


@pytest.mark.live
def test_an_array_goes_into_the_store_once() -> None:
    mapper, array = ArrayMapper(1000, "r"), np.ones(LARGE)
    used: list[Any] = []
    data, buffers, gaps = pickling.dumps([array, [array, array[:]]], mapper.reducers(used))
    again: list[Any] = []
    pickling.dumps(array, mapper.reducers(again))
    assert buffers == []
    assert memoryview(data).nbytes < 2000
    assert [id(buffer) for buffer in again] == [id(used[0])]
    with arrays_from(tuple(used)):
        one, (two, view) = pickling.loads(data, buffers, gaps)
    assert one is two
    assert view.sum() == LARGE
    mapper.forget()
    anew: list[Any] = []
    pickling.dumps(array, mapper.reducers(anew))
    assert anew[0] is not used[0]


def filled_anew(array: Any, start: int = 0) -> Any:
    for number in range(start, start + 12):
        array[:] = number
        yield delayed(describe)(array)


@pytest.mark.live
@pytest.mark.parametrize("size", [LARGE, 15 * LARGE])  # compared in full, and in samples
def test_an_array_that_the_generator_fills_anew_is_never_stale(size: int) -> None:
    array = np.zeros(size)
    found = Parallel(n_jobs=2, backend="scalepool", batch_size=1)(filled_anew(array))
    # joblib itself takes n_jobs items from the generator before it looks at the first of them.
    assert [total for _, _, total in found] == [float(size) * (number | 1) for number in range(12)]


@pytest.mark.live
def test_arrays_are_written_once_and_anew_into_the_same_memory_when_they_have_changed() -> None:
    array = np.full(LARGE, 7.0)
    rows = np.full((LARGE // 100, 200), 8.0)[:, ::2]
    store = current().client.store
    with Parallel(n_jobs=2, backend="scalepool", batch_size=1) as parallel:
        parallel([delayed(abs)(-1)] * 4)
        for written in (2, 0, 0, 2, 0):
            if written:
                array += 2.0
                rows += 2.0
            before = store.statistics()
            parallel(delayed(describe)(one) for one in [array, rows] * 10)
            now = store.statistics()
            assert now.created == before.created + written


@pytest.mark.live
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_are_written_once(kind: type) -> None:
    data = kind(range(256)) * (10_000 + len(kind.__name__))
    store = current().client.store
    Parallel(n_jobs=2, backend="scalepool")([delayed(abs)(-1)] * 4)
    before = store.statistics().created
    found = Parallel(n_jobs=2, backend="scalepool", batch_size=1)(delayed(last_of)(data, n) for n in range(10))
    assert found == [(kind, 255 - n) for n in range(10)]
    assert store.statistics().created == before + 1


def last_of(data: Any, number: int) -> tuple[type, int]:
    return type(data), data[-1 - number]


def test_what_is_forgotten_is_let_go_without_the_collector() -> None:
    mapper, array = ArrayMapper(1000, "r"), np.ones(LARGE)
    used: list[Any] = []
    pickling.dumps(array, mapper.reducers(used))
    handle = weakref.ref(used[0])
    used.clear()
    assert handle() is not None
    mapper.forget()
    assert handle() is None

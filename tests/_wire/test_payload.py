from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._wire.payload import Payload, announce, dumps, dumps_inline, dumps_scalars, loads
from scalepool.errors import SerializationError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Buffered:
    """Pickles as one out-of-band buffer."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data

    def __reduce_ex__(self, _protocol: int) -> tuple[Any, ...]:
        return bytearray, (pickle.PickleBuffer(self.data),)


class Shared:
    """Announces itself as a SharedBuffer does."""

    def __init__(self, number: int, inner: object = None) -> None:
        self.number, self.inner = number, inner

    def __reduce__(self) -> tuple[Any, ...]:
        announce(self.number)
        if self.inner is not None:
            nested = dumps(self.inner, oob_threshold=1)
            assert nested.references
        return Shared, (self.number,)


class Moody:
    """Plain pickle fails at the first try."""

    tries = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        Moody.tries += 1
        announce(self.number)
        if Moody.tries == 1:
            raise ValueError("not now")
        return int, (self.number,)


@given(values)
def test_values_come_back_equal(value: object) -> None:
    payload = dumps(value, oob_threshold=64)
    assert payload.data == pickle.dumps(value, 5)
    assert payload.data[0] == 0x80
    assert (payload.buffers, payload.references) == ((), ())
    assert loads(payload.data) == value
    assert loads(memoryview(dumps_inline(value))) == value


@pytest.mark.parametrize(("size", "outside"), [(99, 0), (100, 1), (1000, 1)])
def test_only_large_buffers_stay_outside(size: int, outside: int) -> None:
    payload = dumps([Buffered(bytearray(size)), Buffered(bytearray(10))], oob_threshold=100)
    assert len(payload.buffers) == outside
    assert payload.sizes == (size,) * outside
    assert payload.size_bytes == len(payload.data) + size * outside
    assert loads(payload.data, payload.buffers) == [bytearray(size), bytearray(10)]


def test_buffers_are_views_not_copies_and_arrive_writable() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(1000.0)
    payload = dumps({"a": array, "b": array.T}, oob_threshold=64)
    assert np.shares_memory(np.frombuffer(payload.buffers[0]), array)
    back = loads(payload.data, [bytearray(view) for view in payload.buffers])["a"]
    back[0] = 5
    assert back[0] == 5
    assert array[0] == 0
    assert (loads(dumps_inline(array)) == array).all()


def test_memory_that_is_not_contiguous_travels_too() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(10_000)[::2]
    assert (loads(*dumps(array, oob_threshold=64)[:2]) == array).all()


def test_buffers_next_to_a_function_by_value() -> None:
    payload = dumps((lambda: 1, Buffered(bytearray(b"x" * 500))), oob_threshold=100)
    function, data = loads(payload.data, payload.buffers)
    assert (function(), data, payload.sizes) == (1, bytearray(b"x" * 500), (500,))


def test_announcements_are_returned_once_each_and_in_order() -> None:
    assert dumps([Shared(5), Shared(3), Shared(5)], oob_threshold=1).references == (5, 3)
    assert dumps([1], oob_threshold=1).references == ()


def test_nested_calls_keep_their_announcements_apart() -> None:
    assert dumps([Shared(1), Shared(2, inner=Shared(99)), Shared(3)], oob_threshold=1).references == (1, 2, 3)


def test_a_second_attempt_starts_with_no_announcements() -> None:
    Moody.tries = 0
    payload = dumps([Moody(4), Shared(5)], oob_threshold=1)
    assert Moody.tries == 2
    assert payload.references == (4, 5)


def test_announcements_outside_of_dumps_are_nobodys() -> None:
    pickle.dumps(Shared(77))
    assert dumps(Shared(1), oob_threshold=1).references == (1,)
    with pytest.raises(SerializationError):
        dumps([Shared(2), threading.Lock()], oob_threshold=1)
    assert dumps(0, oob_threshold=1).references == ()


def test_errors_name_the_path_and_keep_the_original() -> None:
    with pytest.raises(
        SerializationError, match=r"cannot send args\[1\]\['k'\]: _thread.lock .*inside the task"
    ) as caught:
        dumps((1, {"k": threading.Lock()}), oob_threshold=1, label="args")
    assert caught.value.path == "args[1]['k']"
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(SerializationError) as caught:
        dumps(((), {"k": threading.Lock()}), oob_threshold=1, label=("args", "kwargs"))
    assert caught.value.path == "kwargs['k']"


def test_too_deep_nesting_is_an_error_and_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="nested too deeply"):
        dumps(deep, oob_threshold=1)
    while deep:
        deep = deep.pop()


def test_running_out_of_memory_says_nothing_about_the_value() -> None:
    class Greedy:
        def __reduce__(self) -> tuple[Any, ...]:
            raise MemoryError

    with pytest.raises(MemoryError):
        dumps(Greedy(), oob_threshold=1)


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupted:
        def __reduce__(self) -> tuple[Any, ...]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dumps(Interrupted(), oob_threshold=1)


def test_a_payload_cannot_be_changed() -> None:
    payload = Payload(b"")
    with pytest.raises(AttributeError):
        payload.data = b"x"  # type: ignore[misc]


def test_numbers_and_strings_are_pickled_with_or_without_the_places_of_what_is_left_out() -> None:
    assert pickle.loads(dumps_scalars((1, "a"), {"k": 2.5}, 1000) or b"") == ((1, "a"), {"k": 2.5})
    data = dumps_scalars((None, 1), {"k": None}, 1000, [0, "k"])
    assert pickle.loads(data or b"") == ((None, 1), {"k": None}, [0, "k"])
    assert dumps_scalars((None, []), {}, 1000, [0]) is None
    assert dumps_scalars((None, "x" * 1000), {}, 1000, [0]) is None

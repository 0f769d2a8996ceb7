"""What one pickler trips over is given to another one: no error is lost on the way, and none is tried for ever."""

from __future__ import annotations

import pickle

import pytest

from scalepool._wire.payload import LARGE_BYTES, dumps, dumps_inline
from scalepool.errors import SerializationError

_ERRORS = [
    ValueError("v"), TypeError("t"), AttributeError("a"), pickle.PicklingError("p"), OSError(5, "o"), StopIteration(3),
    KeyError("k"), ImportError("i"),
]  # fmt: skip
_BESIDE = [(), (lambda: 1,), (bytes(2 * LARGE_BYTES),)]


class Stubborn:
    """Raises whenever it is pickled, or the first few times."""

    def __init__(self, error: BaseException, times: int = 1 << 30) -> None:
        self.error = error
        self.times = times
        self.tried = 0

    def __reduce_ex__(self, protocol: object) -> tuple[type[int], tuple[int]]:
        self.tried += 1
        if self.tried <= self.times:
            raise self.error
        return int, (5,)


@pytest.mark.parametrize("beside", _BESIDE, ids=["alone", "with a function", "with much"])
@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_told_whatever_pickler_meets_it(error: Exception, beside: tuple[object, ...]) -> None:
    with pytest.raises(SerializationError) as told:
        dumps([Stubborn(error), *beside], oob_threshold=LARGE_BYTES)
    assert told.value.__cause__ is error
    with pytest.raises(type(error)) as raw:
        dumps_inline([Stubborn(error), *beside])
    assert raw.value is error


@pytest.mark.parametrize("beside", _BESIDE, ids=["alone", "with a function", "with much"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_tried_once(kind: type[BaseException], beside: tuple[object, ...]) -> None:
    for pickler in (lambda value: dumps(value, oob_threshold=LARGE_BYTES), dumps_inline):
        value = Stubborn(kind())
        with pytest.raises(kind):
            pickler([value, *beside])
        assert value.tried == 1


def test_lack_of_memory_says_nothing_about_the_value() -> None:
    value = Stubborn(MemoryError())
    with pytest.raises(MemoryError):
        dumps([value], oob_threshold=LARGE_BYTES)
    assert value.tried == 2


def test_one_that_works_the_second_time_is_sent() -> None:
    assert pickle.loads(dumps(Stubborn(ValueError(), times=1), oob_threshold=LARGE_BYTES).data) == 5


def test_an_error_of_a_reducer_is_told_too() -> None:
    class Odd:
        pass

    def reduce(odd: Odd) -> str:
        raise LookupError(odd)

    with pytest.raises(SerializationError) as told:
        dumps(Odd(), oob_threshold=LARGE_BYTES, reducers={Odd: reduce})
    assert type(told.value.__cause__) is LookupError

"""Short texts of pickled calls: nothing of the user's is loaded or run for them."""

from __future__ import annotations

import enum
import os
import pickle
from collections import OrderedDict
from functools import partial
from typing import Any

import pytest

from scalepool._wire.pickling.peek import short_call, short_repr


class Colour(enum.Enum):
    RED = 1


class Deadly:
    def __reduce__(self) -> Any:
        return os._exit, (9,)


class Stateful(list):  # type: ignore[type-arg]
    def __init__(self) -> None:
        super().__init__([1, 2])
        self.more = {"a": 1}


def call(*args: Any, **kwargs: Any) -> str:
    return short_call(pickle.dumps((args, kwargs), 5))


def test_plain_values_are_shown_as_they_are() -> None:
    assert call(1, "two", None, [3.5], key={"a": b"b"}) == "(1, 'two', None, [3.5], key={'a': b'b'})"
    assert call() == "()"


@pytest.mark.parametrize(
    "value", [Deadly(), Colour.RED, Stateful(), OrderedDict(a=1), partial(print, 1), {Colour.RED: Deadly()}, Colour]
)
def test_other_values_are_shown_by_name_and_not_loaded(value: Any) -> None:
    assert call(value).startswith("(")


def test_what_is_long_is_cut() -> None:
    assert len(call("x" * 10_000, *range(1000))) < 220
    assert len(short_repr(list(range(10_000)))) < 220


def test_one_item_of_a_sequence() -> None:
    data = pickle.dumps((([10, 20, 30],), {}))
    assert short_call(data, 2) == "(20)"
    assert short_call(pickle.dumps(((range(100),), {})), 7) == "(6)"
    assert short_call(data, 4) == ""


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps(5), pickle.dumps((1, 2, 3))])
def test_what_is_no_call_is_not_shown(data: bytes) -> None:
    assert short_call(data) == ""


def test_a_repr_that_raises_is_replaced() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Broken" in short_repr(Broken())

"""``NamedTuple`` without ``typing``: what it makes is what ``typing.NamedTuple`` makes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import typing

import pytest

from scalepool._base.tuples import NamedTuple


class Point(NamedTuple):
    """A point."""

    x: int
    y: int = 2
    label: str = ""

    @property
    def sum(self) -> int:
        """Both together."""
        return self.x + self.y

    @classmethod
    def origin(cls) -> Point:
        return cls(0, 0)

    def __repr__(self) -> str:
        return f"<{self.x}, {self.y}>"


class Same(typing.NamedTuple):
    """A point."""

    x: int
    y: int = 2
    label: str = ""


class Empty(NamedTuple):
    """Nothing."""


def test_it_is_the_same_tuple() -> None:
    assert Point(1) == Same(1) == (1, 2, "")
    assert Point._fields == Same._fields
    assert Point._field_defaults == Same._field_defaults
    assert Point.__annotations__ == {"x": "int", "y": "int", "label": "str"}
    assert (Point.__doc__, Point.__module__, Point.__qualname__) == ("A point.", __name__, "Point")
    assert Point(1)._replace(y=5) == Point(x=1, y=5)
    assert Empty() == ()


def test_methods_are_kept() -> None:
    assert Point(3).sum == 5
    assert Point.origin() == (0, 0, "")
    assert repr(Point(1)) == "<1, 2>"
    assert repr(Empty()) == "Empty()"


def test_it_is_frozen_and_has_no_dict() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    assert not hasattr(point, "__dict__")


def test_it_pickles_by_reference() -> None:
    copied = pickle.loads(pickle.dumps(Point(1)))

    assert copied == Point(1)
    assert type(copied) is Point


def test_a_field_without_default_after_one_with_is_refused() -> None:
    with pytest.raises(TypeError):
        exec("class Wrong(NamedTuple):\n    x: int = 1\n    y: int\n", {"NamedTuple": NamedTuple, "__name__": "m"})


def test_it_needs_no_typing() -> None:
    code = "import sys, scalepool._base.tuples; print('typing' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "False\n"

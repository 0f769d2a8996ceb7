"""The dictionary is complete, and its messages are plain tuples."""

from __future__ import annotations

import typing

import pytest

from scalepool._base.ids import PEER_MAX, make_id
from scalepool._wire import actors
from scalepool._wire import messages as m

KINDS = typing.get_args(m.Message)


def test_every_class_of_the_dictionary_is_a_message_and_is_exported() -> None:
    values = [*vars(m).values(), *vars(actors).values()]
    classes = {value for value in values if isinstance(value, type) and issubclass(value, tuple)}
    assert set(KINDS) == classes
    assert {kind.__name__ for kind in KINDS} <= {*m.__all__, *actors.__all__}
    assert len(set(KINDS)) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_is_an_immutable_tuple_with_a_docstring(kind: type) -> None:
    assert kind.__doc__
    assert "(" not in kind.__doc__.split("\n", 1)[0][: len(kind.__name__) + 1], "the docstring is only the signature"
    assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)


@pytest.mark.parametrize(
    ("enumeration", "numbers"),
    [(m.Status, list(range(10))), (m.CloseMode, [0, 1, 2]), (actors.EndMode, [0, 1, 2])],
    ids=["Status", "CloseMode", "EndMode"],
)
def test_numbers_on_the_wire_do_not_change(enumeration: type[m.Status], numbers: list[int]) -> None:
    assert [member.value for member in enumeration] == numbers


def test_a_harsher_way_to_close_is_a_larger_number() -> None:
    assert m.CloseMode.DRAIN < m.CloseMode.TERMINATE < m.CloseMode.KILL


def test_every_id_fits_the_wire() -> None:
    assert make_id(PEER_MAX, (1 << 40) - 1) < 1 << 63
    assert make_id(m.DRIVER, 1) == 1

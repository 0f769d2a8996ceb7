"""What cloudpickle leaves out of an Enum that travels by value: what its members got from ``__new__`` and ``__init__``.

It makes the members anew from their values, before the class has its methods. So ``__init__`` is not called, and a
``__new__`` of the user's, which may well take other arguments than the value, is not there. Here the members are given
what they had.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import FunctionType
from typing import Any

__all__ = ["enum_arguments", "make_enum", "member_states", "set_members"]

_BY_MACHINERY = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"})
_PLAIN_DATA: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes,
    tuple: tuple,
}


def enum_arguments(cls: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what `make_enum` wants.

    Parameters
    ----------
    cls
        The Enum.
    arguments
        What cloudpickle's maker wants.
    """
    return arguments, _made_by_hand(cls)


def _made_by_hand(cls: Any) -> dict[str, tuple[Any, Any]] | None:
    """Return data and value of each member, ``None`` where the value is all that its ``__new__`` needs."""
    new = getattr(cls, "__new_member__", None)
    if not isinstance(new, FunctionType) or new.__module__ == "enum":
        return None
    to_data = _PLAIN_DATA.get(cls._member_type_)
    return {member.name: (None if to_data is None else to_data(member), member.value) for member in cls}


def make_enum(
    maker: Callable[..., type], arguments: tuple[Any, ...], by_hand: dict[str, tuple[Any, Any]] | None
) -> type:
    """Return an Enum with its members, still without methods."""
    if by_hand is None:
        return maker(*arguments)
    bases, name, qualname, _members, module, *_ = arguments
    kind: Any = type(bases[-1])
    namespace = kind.__prepare__(name, bases)
    data_type: Any = next((base._member_type_ for base in bases if issubclass(base, Enum)), object)
    data_type = next((base for base in bases if not issubclass(base, Enum)), data_type)
    data_type = next((known for known in _PLAIN_DATA if issubclass(data_type, known)), None)

    def new(cls: Any, key: str) -> Any:
        data, value = by_hand[key]
        member: Any = object.__new__(cls) if data_type is None else data_type.__new__(cls, data)
        member._value_ = value
        return member

    namespace["__new__"] = new
    for key in by_hand:
        namespace[key] = key
    cls: type = kind(name, bases, namespace)
    cls.__module__, cls.__qualname__ = module, qualname
    return cls


def member_states(cls: Any) -> dict[str, dict[str, Any]]:
    """Return the attributes that each member got from the user's code."""
    found = {}
    for member in cls:
        own = {name: value for name, value in vars(member).items() if name not in _BY_MACHINERY}
        if own:
            found[member.name] = own
    return found


def set_members(cls: Any, states: dict[str, dict[str, Any]]) -> None:
    """Give members these attributes."""
    for name, own in states.items():
        vars(cls.__members__[name]).update(own)

"""A user's script: enumerations of ``__main__``, whose members must be the same objects after any journey."""

from __future__ import annotations

import enum
import typing

from scalepool.api import WorkerGroup

group = WorkerGroup(2)


def call(fn: typing.Any, *args: typing.Any) -> typing.Any:
    return group.submit(fn, args).result(120)


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
    CRIMSON = RED

    def shout(self) -> str:
        return self.name

    @classmethod
    def default(cls) -> Colour:
        return cls.RED


class Text(str, enum.Enum):
    X = "x"


class Number(enum.IntEnum):
    A = 3
    B = 4

    @classmethod
    def _missing_(cls, value: object) -> Number:
        return cls.A


class Access(enum.Flag):
    R = enum.auto()
    W = enum.auto()
    RW = R | W


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Automatic(enum.Enum):
    def _generate_next_value_(name, start, count, last_values):  # noqa: N805  # the enum module's way
        return name.lower()

    P = enum.auto()
    Q = enum.auto()


class Planet(enum.Enum):
    EARTH = (1.0, 2.0)
    MARS = (3.0, 4.0)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass
        self.radius = radius

    @property
    def gravity(self) -> float:
        return self.mass / self.radius


class Coordinate(bytes, enum.Enum):
    def __new__(cls, value: int, label: str) -> typing.Any:
        member = bytes.__new__(cls, [value])
        member._value_ = value
        member.label = label
        return member

    PX = (0, "P.X")
    PY = (1, "P.Y")


Functional = enum.Enum("Functional", "ONE TWO")

members = [
    Colour.RED, Colour.BLUE, Colour.CRIMSON, Text.X, Number.B, Access.R, Access.R | Access.W, Bits.ONE | Bits.TWO,
    Automatic.Q, Planet.EARTH, Coordinate.PY, Functional.TWO,
]  # fmt: skip
for member in members:
    assert call(lambda value: value, member) is member, member
    assert call(lambda one, other: one is other, member, member), member
    assert call(lambda value: type(value)(value.value) is value, member), member
assert call(Colour.RED.shout) == "RED"
assert call(Colour.default) is Colour.RED
assert call(lambda table: table[Colour.RED], {Colour.RED: 3}) == 3
assert call(lambda: Automatic("p")) is Automatic.P
assert call(lambda: Number(77)) is Number.A
assert call(lambda: Access(3) is Access.RW)
assert call(lambda: [member.name for member in Access]) == [member.name for member in Access]
assert call(lambda: (Planet.MARS.gravity, Planet.EARTH.mass)) == (0.75, 1.0)
assert call(lambda: (Coordinate.PY.label, bytes(Coordinate.PY), Coordinate.PY.value)) == ("P.Y", b"\x01", 1)
print("end")

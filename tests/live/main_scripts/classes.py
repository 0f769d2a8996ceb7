"""A user's script: classes of ``__main__`` of every kind, sent, used there, and sent back."""
# ruff: noqa: RUF012

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import threading
import typing

from scalepool.api import WorkerGroup

group = WorkerGroup(2)
T = typing.TypeVar("T")


def call(fn: typing.Any, *args: typing.Any) -> typing.Any:
    return group.submit(fn, args).result(120)


def same(value: typing.Any) -> typing.Any:
    return value


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int

    def plus(self) -> Frozen:
        return dataclasses.replace(self, a=self.a + 1)


class Bare:
    __slots__ = ("__private", "x")

    def __init__(self, x: int) -> None:
        self.x, self.__private = x, 2 * x

    def both(self) -> tuple[int, int]:
        return self.x, self.__private


@dataclasses.dataclass
class Box(typing.Generic[T]):
    v: T

    def boxed(self) -> Box[int]:
        return Box[int](5)


@dataclasses.dataclass
class Special(Box[int]):
    w: int = 3

    def __post_init__(self) -> None:
        self.total = self.v + self.w

    def boxed(self) -> Box[int]:
        return super().boxed()


class Row(typing.NamedTuple):
    x: int
    y: str = "q"

    def both(self) -> tuple[int, str]:
        return self.x, self.y


class Outer:
    class Inner:
        class Deep(enum.Enum):
            A = 1

    def inner(self) -> Inner:
        return Outer.Inner()


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float:
        return 1.0


class Square(Shape):
    def area(self) -> float:
        return super().area()


class Virtual:
    pass


Shape.register(Virtual)


class Meta(type):
    known: dict[str, type] = {}

    def __new__(mcs, name: str, bases: typing.Any, namespace: typing.Any, **options: int) -> typing.Any:
        cls: typing.Any = super().__new__(mcs, name, bases, namespace)
        cls.options = options
        return cls

    def __init__(cls, name: str, bases: typing.Any, namespace: typing.Any, **_: int) -> None:
        super().__init__(name, bases, namespace)
        Meta.known[name] = cls

    def __iter__(cls) -> typing.Any:
        return iter([cls.__name__])


class Made(metaclass=Meta, opt=3):
    def __init_subclass__(cls, **options: int) -> None:
        super().__init_subclass__(**options)
        cls.hooked = True


class Derived(Made):
    pass


@typing.runtime_checkable
class Quacks(typing.Protocol):
    def quack(self) -> int: ...


class Duck:
    def quack(self) -> int:
        return 2


class Named:
    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: typing.Any, owner: type) -> typing.Any:
        return self.name if instance is None else instance.__dict__.get(self.name)

    def __set__(self, instance: typing.Any, value: int) -> None:
        instance.__dict__[self.name] = 2 * value


class Described:
    field = Named()
    _lock = threading.RLock()

    @functools.cached_property
    def lazy(self) -> int:
        with self._lock:
            return 5


values = [
    Slotted(1), Frozen(1), Bare(3), Box(1), Special(2), Row(1), Outer.Inner(), Square(), Virtual(), Made(), Derived(),
    Duck(), Described(),
]  # fmt: skip
for value in values:
    for _ in range(2):
        back = call(same, value)
        assert type(back) is type(value), (back, value)
        assert not dataclasses.is_dataclass(value) or back == value
        assert call(type, value) is type(value)
assert call(Frozen(1).plus) == Frozen(2)
assert call(Bare(3).both) == (3, 6)
assert call(same, Bare(3)).both() == (3, 6)
assert call(lambda: hasattr(Bare(1), "__dict__")) is False
assert type(call(Special(2).boxed)) is Box
assert call(lambda: Special(2).total) == 5
assert call(Row(1).both) == (1, "q")
assert call(Row._make, [1, 2]) == Row(1, 2)
assert call(lambda deep: deep is Outer.Inner.Deep.A, Outer.Inner.Deep.A)
assert type(call(Outer().inner)) is Outer.Inner
assert call(Square().area) == 1.0
assert call(lambda: (isinstance(Virtual(), Shape), issubclass(int, Shape))) == (True, False)
Shape.register(int)
assert call(lambda: issubclass(int, Shape))
assert call(lambda: (list(Made), Made.options, Derived.hooked)) == (["Made"], {"opt": 3}, True)
assert call(lambda: Meta.known["Made"] is Made)
assert call(lambda: (isinstance(Duck(), Quacks), isinstance(1, Quacks))) == (True, False)
described = Described()
described.field = 2
assert call(same, described).field == 4
assert call(lambda: (Described.field, Described().lazy)) == ("field", 5)

# One class in all tasks of a worker, whichever brought it.
one = WorkerGroup(1)


def keep(value: typing.Any) -> None:
    global kept
    kept = value


def compare(value: typing.Any) -> tuple[bool, bool]:
    return isinstance(kept, type(value)), kept == value


for value in [Slotted(1), Frozen(2), Row(1), Special(2), Outer.Inner.Deep.A]:
    one.submit(keep, (value,)).result(120)
    assert one.submit(compare, (value,)).result(120) == (True, True), value

# Plain pickle, in a task, of what has been sent.
assert call(lambda value: __import__("pickle").loads(__import__("pickle").dumps(value)) == value, Slotted(4))
print("end")

"""A user's script: functions of ``__main__``, what they close over, and the globals that they share."""
# ruff: noqa: B023, PLW0108

from __future__ import annotations

import functools
import threading
import typing

from scalepool.api import WorkerGroup

group = WorkerGroup(2)
one = WorkerGroup(1)
lock = threading.Lock()


def call(fn: typing.Any, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
    return group.submit(fn, args, kwargs).result(120)


def everywhere(fn: typing.Any, *args: typing.Any) -> set[typing.Any]:
    return {future.result(120) for future in [group.submit(fn, args) for _ in range(8)]}


# Mutual recursion, decorators, methods.


def is_even(n: int) -> bool:
    return n == 0 or is_odd(n - 1)


def is_odd(n: int) -> bool:
    return n != 0 and is_even(n - 1)


def repeated(times: int) -> typing.Any:
    def decorate(fn: typing.Any) -> typing.Any:
        @functools.wraps(fn)
        def wrapper(*args: typing.Any) -> list[typing.Any]:
            return [fn(*args)] * times

        return wrapper

    return decorate


@repeated(2)
@repeated(1)
def decorated(x: int) -> int:
    return x


class Counting:
    def __init__(self, fn: typing.Any) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.calls = 0

    def __call__(self, *args: typing.Any) -> typing.Any:
        self.calls += 1
        return self.fn(*args)


@Counting
def counted(x: int) -> int:
    with lock:
        return x


assert call(is_even, 10)
assert call(decorated, 1) == [[1], [1]]
assert call(counted, 3) == 3
assert counted.calls == 0
with lock:
    assert call(counted, 3) == 3  # each process has a lock of its own

# singledispatch, with implementations that come later.


@functools.singledispatch
def show(x: object) -> str:
    return "object"


@show.register
def _(x: int) -> str:
    return "int"


def show_it(x: typing.Any) -> str:
    return show(x)


class Shower:
    @functools.singledispatchmethod
    def show(self, x: object) -> str:
        return "object"

    @show.register
    def _(self, x: int) -> str:
        return "int"


assert everywhere(show, 1) == everywhere(show_it, 1) == {"int"}
assert everywhere(show_it, "") == {"object"}
show.register(str, lambda x: "str")
assert everywhere(show_it, "") == everywhere(show, "") == {"str"}
assert (call(Shower().show, 1), call(lambda: Shower().show(""))) == ("int", "object")

# What a cache holds stays in the worker, whichever function asks.
computed = 0


@functools.cache
def cached(x: int) -> tuple[int, int]:
    global computed
    computed += 1
    return x, computed


def ask(x: int) -> tuple[int, int]:
    return cached(x)


assert {one.submit(fn, (1,)).result(120) for fn in (cached, ask, lambda x: cached(x), cached)} == {(1, 1)}
assert call(lambda: cached.cache_info().maxsize) is None
assert (cached.cache_info().currsize, computed) == (0, 0)

# Closures over loop variables, defaults, keyword-only arguments.
late = [lambda: i for i in range(3)]
early = [lambda i=i: i for i in range(3)]
assert [call(fn) for fn in late] == [2, 2, 2]
assert [call(fn) for fn in early] == [0, 1, 2]
futures = []
for step in range(5):
    futures.append(group.submit(lambda: step))
assert [future.result(120) for future in futures] == [0, 1, 2, 3, 4]


def signature(a: int, /, b: int = 2, *c: int, d: int = 4, **e: int) -> typing.Any:
    return a, b, c, d, e


assert call(signature, 1) == (1, 2, (), 4, {})
signature.__defaults__ = (9,)
signature.__kwdefaults__ = {"d": 7}
assert call(signature, 1, 5, 6, f=8) == (1, 5, (6,), 7, {"f": 8})


def use_signature() -> typing.Any:
    return signature(1)


assert everywhere(lambda: use_signature()[1]) == {9}
signature.__defaults__ = (10,)
assert everywhere(lambda: use_signature()[1]) == {10}

# Attributes and closures as memory: the worker has its own, until the parent changes its.


def static() -> int:
    static.calls += 1
    return static.calls


static.calls = 0


def use_static() -> int:
    return static()


assert [one.submit(use_static).result(120) for _ in range(3)] == [1, 2, 3]
static.calls = 10
assert one.submit(use_static).result(120) == 11


def counter() -> typing.Any:
    n = 0

    def increase() -> int:
        nonlocal n
        n += 1
        return n

    return increase


count = counter()


def use_counter() -> int:
    return count()


assert [one.submit(use_counter).result(120) for _ in range(2)] == [1, 2]
assert [count() for _ in range(5)][-1] == 5
assert one.submit(use_counter).result(120) == 6

# Globals that change.
setting: typing.Any = 1


def look() -> str:
    return repr(setting)


assert everywhere(look) == {"1"}
setting = [1]
assert everywhere(look) == {"[1]"}
setting.append(2)
assert everywhere(look) == {"[1, 2]"}
setting = {"a": {"b": 1}}
assert everywhere(look) == {"{'a': {'b': 1}}"}
setting["a"]["b"] = 2
assert everywhere(look) == {"{'a': {'b': 2}}"}


def look_again() -> str:
    return "look again"


def helper() -> str:
    return look()


assert everywhere(helper) == {"{'a': {'b': 2}}"}
look = look_again
assert everywhere(helper) == {"look again"}
print("end")

from __future__ import annotations

import functools
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from scalepool._wire.payload import dumps_inline
from scalepool._wire.pickling.culprit import MAX_TRIES, find_culprit

LOCK = threading.Lock()


@dataclass
class Model:
    weights: list[int]
    _lock: Any


class Slotted:
    __slots__ = ("good", "lock")

    def __init__(self) -> None:
        self.good, self.lock = 1, LOCK


class WithState:
    def __getstate__(self) -> dict[str, Any]:
        return {"inner": [0, LOCK]}


class Reduced:
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (1, LOCK)


class Raising:
    def __reduce__(self) -> tuple[Any, ...]:
        raise ValueError("never")

    def __repr__(self) -> str:
        raise ValueError("no repr either")


def closure() -> Any:
    captured = {"deep": LOCK}
    return lambda: captured


def with_default(x: Any = LOCK) -> Any:
    return lambda y=x: y


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "args"),
        ((1, "x", Model([1], LOCK)), "args[2]._lock"),
        ({"a": [1, {2: LOCK}]}, "args['a'][1][2]"),
        ({(1, LOCK): 0}, None),
        ({1, LOCK}, "args{...}"),
        (Slotted(), "args.lock"),
        (WithState(), "args.inner[1]"),
        (Reduced(), "args[1]"),
        (functools.partial(print, LOCK), "args.args[0]"),
        (functools.partial(print, end=LOCK), "args.keywords['end']"),
        (closure(), "args.<lambda> closure captured['deep']"),
        (with_default(), "args.<lambda> default 0"),
        (Model([], LOCK).__eq__, "args.__self__._lock"),
        ([Raising()], "args[0]"),
        ({"k": Raising()}, "args['k']"),
    ],
)
def test_paths(value: object, path: str | None) -> None:
    found = find_culprit(value, dumps_inline, "args")
    if path is not None:
        assert found.path == path
    assert found.kind in {"_thread.lock", f"{__name__}.Raising"}
    assert found.kind in found.explain(TypeError("x"))


def test_a_value_that_fails_only_as_a_whole_is_named_itself() -> None:
    class Whole:
        def __init__(self) -> None:
            self.part = 1

        def __reduce__(self) -> tuple[Any, ...]:
            raise pickle.PicklingError("I refuse")

    found = find_culprit([Whole()], dumps_inline)
    assert found.path == "[0]"
    assert "I refuse" in found.explain(pickle.PicklingError("I refuse"))


def test_cycles_and_wide_values_end() -> None:
    cycle: list[Any] = [1]
    cycle.append({"back": cycle, "lock": LOCK})
    assert find_culprit(cycle, dumps_inline, "a").path.startswith("a[1]")
    tries = []

    def try_pickle(part: object) -> None:
        tries.append(part)

    wide = [[i] for i in range(10 * MAX_TRIES)]
    assert find_culprit(wide, try_pickle, "a").path == "a"
    assert len(tries) == MAX_TRIES


def test_it_never_raises() -> None:
    class Hostile(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("no")

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert find_culprit(Hostile(), dumps_inline, "args").path == "args"
    assert find_culprit([Hostile()], dumps_inline, "args").path.startswith("args")

"""Functions by value: which globals they take along, and when that goes without cloudpickle."""

from __future__ import annotations

import functools
import math
import os.path
import pickle
import subprocess
import sys
import threading
import types
import xml.etree  # noqa: F401  # a submodule that somebody has loaded: see parses()
from collections.abc import Callable
from typing import Any

import pytest

from scalepool._shims.chunks import MapChunk
from scalepool._wire.payload import dumps
from scalepool._wire.pickling.exchange import Exchange
from scalepool._wire.pickling.functions import dumps_function, reduce_code, used_globals

SOURCE = """
import functools, math, os.path, xml, xml.etree
K = 3
table = {"k": [1, 2]}
stream = __import__("sys")._getframe()

def plain(x): return x * K
def calls(x): return plain(x) + math.sqrt(4) + os.path.sep.count("/")
def recursive(n): return n and 1 + recursive(n - 1)
def reads(x): return table["k"][x]
def defaults(x, y=2, *, z=3): return x + y + z
def attribute(x): return x.lock
def nested(x):
    def inner(y): return y + K
    return inner(x)
def adder(n): return lambda x: x + n
def unbound():
    def inner(): return later
    if False:
        later = 1
    return inner
def names_a_class(x): return isinstance(x, dict)
def parses(): return xml.etree.__name__
def decorated(x): return x
decorated.tag = "t"
class Own: pass
def makes(): return Own()
def streams(): return stream
"""


@pytest.fixture
def module() -> types.ModuleType:
    """A module that nobody can import: all its functions travel by value."""
    made = types.ModuleType("made_for_test_functions")
    sys.modules[made.__name__] = made
    exec(SOURCE, vars(made))
    yield made  # type: ignore[misc]
    del sys.modules[made.__name__]


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("plain", (2,), 6),
        ("calls", (2,), 6 + 2.0 + 1),
        ("recursive", (4,), 4),
        ("reads", (1,), 2),
        ("defaults", (1,), 6),
        ("nested", (1,), 4),
        ("names_a_class", ({},), True),
        ("parses", (), "xml.etree"),
    ],
)
def test_plain_functions_need_no_cloudpickle(
    module: types.ModuleType, name: str, arguments: tuple[Any, ...], result: object
) -> None:
    data = dumps_function(vars(module)[name], Exchange(1))

    assert data is not None
    assert b"cloudpickle" not in data
    assert pickle.loads(data)(*arguments) == result


def test_closures_attributes_and_wrappers(module: types.ModuleType) -> None:
    def again(value: Any) -> Any:
        data = dumps_function(value, Exchange(1))
        assert data is not None
        return pickle.loads(data)

    assert again(module.adder(5))(1) == 6
    assert again(module.decorated).tag == "t"
    assert again(module.decorated).__qualname__ == "decorated"
    with pytest.raises(NameError):
        again(module.unbound())()
    # What is around the function: of the standard library only partials, and classes of our own.
    assert again(MapChunk(functools.partial(module.defaults, y=1)))([1, 2]) == [5, 6]


@pytest.mark.parametrize("name", ["makes", "streams"])
def test_what_takes_more_is_left_to_the_other_pickler(module: types.ModuleType, name: str) -> None:
    assert dumps_function(vars(module)[name], Exchange(1)) is None


def test_the_other_pickler_then_does_it_or_says_why(module: types.ModuleType) -> None:
    made = pickle.loads(dumps(module.makes, oob_threshold=1 << 20).data)()

    assert type(made).__name__ == "Own"
    with pytest.raises(TypeError, match="global stream: frame"):
        dumps(module.streams, oob_threshold=1 << 20)


def test_globals_are_those_that_the_code_reads_and_no_attributes(module: types.ModuleType) -> None:
    assert list(used_globals(module.attribute)) == []
    assert set(used_globals(module.calls)) == {"plain", "math", "os"}
    assert set(used_globals(module.nested)) == {"K"}


@pytest.mark.parametrize("function", [math.sqrt, os.path.join, threading.Thread.run, used_globals])
def test_what_the_reader_finds_goes_by_name(function: Callable[..., object]) -> None:
    data = dumps_function(MapChunk(function), Exchange(1))

    assert data is None or b"rebuild_function" not in data


def test_code_is_rebuilt_as_it_was() -> None:
    def example(a: int, /, b: int = 1, *args: int, c: int = 2, **kwargs: int) -> tuple[object, ...]:
        try:
            return a, b, args, c, kwargs, [x for x in args]  # noqa: C416
        except ValueError:
            return ()

    make, arguments = reduce_code(example.__code__)

    assert make(*arguments) == example.__code__


def test_a_worker_rebuilds_a_function_without_cloudpickle(module: types.ModuleType) -> None:
    data = dumps_function(module.calls, Exchange(1))
    code = (
        "import pickle, sys; function = pickle.loads(sys.stdin.buffer.read()); "
        "print(function(2), 'cloudpickle' in sys.modules)"
    )
    assert data is not None
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=60, check=True)

    assert done.stdout.split() == [b"9.0", b"False"]
